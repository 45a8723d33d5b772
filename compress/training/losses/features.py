"""Losses between feature maps `[batch, channels, height, width]` of student and teacher.

Where the heights or widths differ, the larger is average-pooled to the smaller.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from compress.training.losses._precision import full_precision


@full_precision
def attention_transfer(student: Tensor, teacher: Tensor) -> Tensor:
    """Attention transfer: squared difference of attention maps, arXiv 1612.03928. Channels may differ in number.

    An image's attention map is the mean of its squared activations over the channels, flattened and scaled to length
    1. The mean is over images and places, as in the authors' code (the paper has a norm). Maps without activation
    stay 0.
    """
    s, t = _same_size(student, teacher)
    return F.mse_loss(_attention(s), _attention(t))


@full_precision
def hint(student: Tensor, teacher: Tensor) -> Tensor:
    """FitNets' hint: squared difference, arXiv 1412.6550, the mean over images, channels and places.

    Both have the same channels. The paper has half the sum.
    """
    return F.mse_loss(*_same_size(student, teacher))


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)


def _attention(maps: Tensor) -> Tensor:
    return F.normalize(maps.square().mean(1).flatten(1))
