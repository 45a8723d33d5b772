"""Rendering of `standard` views against torchvision's transforms in a DataLoader, in alternating rounds.

Ours renders batches in this process, on as many threads as the DataLoader has workers. torchvision's v2 transforms do
the same operations with the same ranges, image by image, on uint8 tensors and on PIL images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from compress.data.views import render
from compress.recipe.data import Views
from compress.recipe.load import parse_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--policy", default="standard", help="a policy of configs/views")
    parser.add_argument("--side", type=int, default=224, help="of the images, in pixels")
    parser.add_argument("--images", type=int, default=1024, help="per round")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7, help="of all ways, in alternating order")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoaders, and threads of ours")
    args = parser.parse_args()
    torch.set_num_threads(args.workers)
    images, settings = photographs(args.images, args.side), policy(args.policy)
    ways: dict[str, Callable[[], None]] = {"views": lambda: rendered(images, settings, args.batch)}
    loaders = {
        name: DataLoader(Images(images, transform(settings, args.side), pil), args.batch, num_workers=args.workers,
                         persistent_workers=True)
        for name, pil in (("torchvision, tensors", False), ("torchvision, PIL", True))
    }  # fmt: skip
    ways |= {name: lambda loader=loader: loaded(loader) for name, loader in loaders.items()}
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name in list(ways)[:: 1 if number % 2 else -1]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    ours = np.array(seconds["views"])
    print(f"{settings}\n{args.images} images of {args.side} pixels, {args.rounds} rounds: median (smallest to largest)")
    for name, times in seconds.items():
        ratio = np.array(times) / ours
        rate = args.images / np.median(times)
        spread = f"{np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f})"
        print(f"{name:22s} {rate:6.0f} images/s, {1000 / rate:.3f} ms; {spread} times our time")


def policy(name: str) -> Views:
    """Read a policy as a recipe would."""
    text = (
        f"data: {{use: cifar10-sample, views: {name}}}\nstages: [{{id: a, kind: train, student: resnet18, epochs: 0}}]"
    )
    return parse_recipe(text).data.views


def photographs(count: int, side: int) -> Tensor:
    """Smooth random images, uint8 `[count, 3, side, side]`."""
    small = torch.rand(count, 3, side // 6, side // 6, generator=torch.Generator().manual_seed(0))
    large = torch.cat([torch.nn.functional.interpolate(part, (side, side), mode="bicubic") for part in small.split(64)])
    return large.clamp_(0, 1).mul_(255).to(torch.uint8)


def rendered(images: Tensor, settings: Views, batch: int) -> None:
    for start in range(0, len(images), batch):
        index = torch.arange(start, min(start + batch, len(images)))
        render(images.index_select(0, index), index, 0, 0, settings)


def loaded(loader: DataLoader[Tensor]) -> None:
    for _ in loader:
        pass


class Images(Dataset[Tensor]):
    """Images with a transform, one by one."""

    def __init__(self, images: Tensor, apply: v2.Transform, pil: bool) -> None:
        self.images, self.apply, self.pil = images, apply, pil

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images[index]
        if not self.pil:
            return self.apply(image)  # type: ignore[no-any-return]
        return v2.functional.pil_to_tensor(self.apply(Image.fromarray(image.permute(1, 2, 0).numpy())))


def transform(views: Views, side: int) -> v2.Transform:
    """torchvision's transforms with the settings of a policy; it shifts nothing."""
    jitter = views.brightness, views.contrast, views.saturation, views.hue
    kept = (
        (views.crop, lambda: v2.RandomResizedCrop(side, views.crop, views.ratio, antialias=True)),
        (views.flip, v2.RandomHorizontalFlip),
        (views.augment == "trivialaugment", lambda: v2.TrivialAugmentWide(interpolation=v2.InterpolationMode.BILINEAR)),
        (any(jitter), lambda: v2.ColorJitter(*jitter)),
        (views.grayscale, lambda: v2.RandomGrayscale(views.grayscale)),
        (views.erasing, lambda: v2.RandomErasing(views.erasing, value=128)),
    )
    return v2.Compose([make() for used, make in kept if used])


if __name__ == "__main__":
    main()
