"""ResNets for images of 32 pixels, registered with timm: `cifar_resnet8` to `cifar_resnet110`, and `cifar_resnet18`.

Those of 6n + 2 layers are from section 4.2 of He et al. 2015 (arXiv 1512.03385): a 3x3 stem without pooling and three
stages of n blocks with 16, 32 and 64 channels. `cifar_resnet18` has ResNet18's four stages behind the same stem.
Parameters are named as in the implementations that most CIFAR checkpoints come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from compress.models.cifar_options import Stride, Width, register

Shortcut = Literal["A", "B"]
"""Option of the paper where a block changes its size: subsampling and zero channels, or a 1x1 convolution."""
DEPTHS = (8, 14, 20, 32, 44, 56, 110)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: `[b, channels, h, w]` to `[b, width, h / stride, w / stride]`."""

    def __init__(self, channels: int, width: int, stride: int, option: Shortcut) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.padding = stride, width - channels
        self.shortcut = nn.Sequential()
        self.pads = option == "A" and (stride != 1 or channels != width)
        if option == "B" and (stride != 1 or channels != width):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, images: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(images)))))
        kept = self.shortcut(images)
        if self.pads:
            before = self.padding // 2
            kept = F.pad(kept[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.padding - before))
        return F.relu(inner + kept)


class CifarResNet(nn.Module):
    """Images `[b, 3, h, w]` to logits `[b, num_classes]`.

    Stages halve height and width; the first one, which divides them by `stride`, does not unless it is 2.
    """

    def __init__(
        self, num_classes: int, blocks: Sequence[int], widths: Sequence[int], option: Shortcut, stride: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        channels = widths[0]
        self.stages = len(blocks)
        for number, (count, width) in enumerate(zip(blocks, widths, strict=True), 1):
            stage = []
            for block in range(count):
                first = stride if number == 1 else 2
                stage.append(BasicBlock(channels, width, 1 if block else first, option))
                channels = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        features = F.relu(self.bn1(self.conv1(images)))
        for number in range(1, self.stages + 1):
            features = self.get_submodule(f"layer{number}")(features)
        return self.linear(features.mean((2, 3)))  # type: ignore[no-any-return]


def _of_depth(depth: int) -> Callable[..., CifarResNet]:
    def build(num_classes: int = 10, width: Width = 1.0, option: Shortcut = "B", stride: Stride = 1) -> CifarResNet:
        """`width` multiplies the channels, `option` is that of the shortcuts, `stride` that of the first stage."""
        widths = [round(width * channels) for channels in (16, 32, 64)]
        return CifarResNet(num_classes, [(depth - 2) // 6] * 3, widths, option, stride)

    build.__name__ = build.__qualname__ = f"cifar_resnet{depth}"
    return build


@register
def cifar_resnet18(
    num_classes: int = 10, width: Annotated[float, Field(ge=0.0625, le=16)] = 1.0, stride: Stride = 1
) -> CifarResNet:
    """ResNet18 behind a 3x3 stem; `width` multiplies the channels, `stride` is that of the first stage."""
    widths = [round(width * channels) for channels in (64, 128, 256, 512)]
    return CifarResNet(num_classes, [2] * 4, widths, "B", stride)


for _depth in DEPTHS:
    register(_of_depth(_depth))
