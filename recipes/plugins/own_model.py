"""A student of one's own, registered with timm: recipes then name it as any other.

compress-model run quickstart --plugin recipes/plugins/own_model.py --set stages.distilled.student=plain_net
"""

from itertools import pairwise
from typing import Any

from timm.models import register_model
from torch import Tensor, nn


class PlainNet(nn.Module):
    """Four convolutions and a linear layer: images `[b, 3, h, w]` to logits `[b, classes]`."""

    def __init__(self, num_classes: int, width: int = 32) -> None:
        super().__init__()
        widths = [3, width, 2 * width, 4 * width, 8 * width]
        self.body = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
                )
                for before, after in pairwise(widths)
            )
        )
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.fc = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.body(images)))


@register_model
def plain_net(pretrained: bool = False, num_classes: int = 1000, width: int = 32, **_: Any) -> PlainNet:
    """The network of `model: plain_net`; `options: {width: 48}` of a recipe arrives as `width`."""
    return PlainNet(num_classes, width)
