"""Weights kept as INT8 with a scale per output channel: a quarter of the size, to start a training from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

SCALE = ".int8_scale"  # ending of the name under which the scales of a tensor are kept
LEVELS = 127


def pack(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Quantize matrices and filters `[out, ...]` to int8 with float32 scales `[out]`; other tensors stay.

    The scale of a channel is the one of 50 below the largest that changes its weights least, in the squared error.
    """
    packed: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.ndim < 2 or not tensor.is_floating_point():
            packed[name] = tensor.contiguous()
            continue
        rows = tensor.detach().flatten(1).double()
        scale = _best_scale(rows)
        packed[name] = _round(rows, scale).to(torch.int8).view(tensor.shape)
        packed[name + SCALE] = scale.float()
    return packed


def unpack(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by name, those that `pack` quantized as float32; tensors without scales stay as they are."""
    weights = dict(tensors)
    for name, tensor in tensors.items():
        scale = tensors.get(name + SCALE)
        if scale is not None and tensor.dtype == torch.int8 and scale.shape == tensor.shape[:1]:
            weights[name] = tensor.float() * weights.pop(name + SCALE).view(-1, *[1] * (tensor.ndim - 1))
    return weights


def _best_scale(rows: Tensor) -> Tensor:
    largest = rows.abs().amax(1).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
    candidates = [largest * share for share in torch.linspace(0.5, 1, 50).tolist()]
    errors = torch.stack([(_round(rows, scale) * scale[:, None] - rows).square().sum(1) for scale in candidates])
    return torch.stack(candidates).gather(0, errors.argmin(0, keepdim=True))[0]


def _round(rows: Tensor, scale: Tensor) -> Tensor:
    return (rows / scale[:, None]).round().clamp(-LEVELS, LEVELS)
