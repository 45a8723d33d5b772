"""Pack weights into an INT8 file of `compress/assets`, a quarter of their size, with the preprocessing and class names
that are stated beside them.

    python scripts/pack_weights.py --weights FILE --out resnet18/imagenet.int8.safetensors

`FILE` is a checkpoint in any of the forms that recipes take, such as torchvision's `resnet18-f37072fd.pth`, or the
`model.safetensors` of a variant in a store. Without a stated preprocessing it is that of torchvision for ImageNet.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from compress.models.classifiers import IMAGENET
from compress.models.packed_weights import pack, unpack
from compress.models.weights_file import Checkpoint, read_checkpoint
from compress.utils.resources import ASSETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="file below compress/assets")
    args = parser.parse_args()
    out = ASSETS / args.out
    checkpoint = read_checkpoint(args.weights)
    kept = {name: value for name, value in checkpoint.weights.items() if not name.endswith("num_batches_tracked")}
    packed = pack(kept)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(packed, out, metadata=_metadata(checkpoint))
    restored = unpack(packed)
    worst = max(float((restored[name] - value).norm() / value.norm()) for name, value in kept.items() if value.ndim > 1)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, relative error of a tensor at most {worst:.3%}")


def _metadata(checkpoint: Checkpoint) -> dict[str, str]:
    """Return what the file states about the network, under the names by which it is read again."""
    stated = checkpoint.preprocess
    mean, std = (stated.mean, stated.std) if stated.mean and stated.std else IMAGENET
    found = {"mean": json.dumps(mean), "std": json.dumps(std), "interpolation": stated.interpolation or "bilinear"}
    if stated.input_size:
        found["input_size"] = json.dumps(stated.input_size)
    if checkpoint.classes:
        found["classes"] = json.dumps(checkpoint.classes)
    return found


if __name__ == "__main__":
    main()
