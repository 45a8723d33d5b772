"""Depthwise networks for images of 32 pixels, registered with timm: `cifar_mobilenetv2` and `cifar_shufflenetv2`.

They are torchvision's networks with early strides of 1, as in the implementations that CIFAR figures are published of.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import nn
from torchvision.models import MobileNetV2, ShuffleNetV2
from torchvision.ops import Conv2dNormActivation

from compress.models.cifar_options import Last, Stride, Width, register


@register
def cifar_mobilenetv2(
    num_classes: int = 10,
    width: Width = 1.0,
    stride: Stride = 1,
    last: Last = 1280,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
) -> MobileNetV2:
    """MobileNetV2 (arXiv 1801.04381, table 2) with a stem of stride 1.

    `width` multiplies the channels, rounded to 8, except for the `last` ones before the classifier. `stride` is that of
    the stage with 24 channels: 1 in published CIFAR networks; 2, as in the paper, for a third to a quarter of the MACs.
    """
    stages = [
        (1, 16, 1, 1),
        (6, 24, 2, stride),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ]
    model = MobileNetV2(num_classes, width, [list(stage) for stage in stages], dropout=dropout)
    model.features[0][0].stride = (1, 1)
    if last != model.last_channel:
        channels = model.features[-1][0].in_channels
        model.features[-1] = Conv2dNormActivation(channels, last, 1, activation_layer=nn.ReLU6)
        model.classifier[1] = nn.Linear(last, num_classes)
        model.last_channel = last
        nn.init.kaiming_normal_(model.features[-1][0].weight, mode="fan_out")  # as torchvision initialises the others
        nn.init.normal_(model.classifier[1].weight, 0, 0.01)
        nn.init.zeros_(model.classifier[1].bias)
    return model


@register
def cifar_shufflenetv2(
    num_classes: int = 10, channels: Annotated[int, Field(ge=8, multiple_of=2)] = 48, last: Last = 1024
) -> ShuffleNetV2:
    """ShuffleNetV2 (arXiv 1807.11164, table 5) with a stem of stride 1 and without pooling.

    `channels` are those of the first stage, doubled in the next two: 48 in x0.5, 116 in x1. `last` are those before the
    classifier.
    """
    model = ShuffleNetV2([4, 8, 4], [24, channels, 2 * channels, 4 * channels, last], num_classes)
    model.conv1[0].stride = (1, 1)
    model.maxpool = nn.Identity()
    return model
