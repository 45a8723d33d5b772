"""Pack torchvision's ImageNet weights into the INT8 file that students start from.

    python scripts/make_imagenet_weights.py --weights FILE --model resnet18

`FILE` is torchvision's, `resnet18-f37072fd.pth` or `mobilenet_v2-b0353104.pth`, or the same state dict saved with
`torch.save`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import save_file

from compress.models.classifiers import IMAGENET
from compress.models.packed_weights import pack, unpack
from compress.models.weights_file import read_checkpoint
from compress.utils.resources import ASSETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--model", choices=["resnet18", "mobilenetv2"], required=True)
    args = parser.parse_args()
    out = ASSETS / args.model / "imagenet.int8.safetensors"
    weights = read_checkpoint(args.weights).weights
    kept = {name: value for name, value in weights.items() if not name.endswith("num_batches_tracked")}
    packed = pack(kept)
    mean, std = (json.dumps(values) for values in IMAGENET)
    save_file(packed, out, metadata={"mean": mean, "std": std, "interpolation": "bilinear"})
    restored = unpack(packed)
    worst = max(float((restored[name] - value).norm() / value.norm()) for name, value in kept.items() if value.ndim > 1)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, relative error of a tensor at most {worst:.3%}")


if __name__ == "__main__":
    main()
