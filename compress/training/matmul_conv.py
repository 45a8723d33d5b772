"""Convolutions with small output maps, computed as matrix products.

oneDNN's convolutions are slow where the map is small and the weights are many, as in the last stage of a ResNet18 at 64
pixels (512 to 512 channels, 2 x 2 outputs): a training step of one takes 64 ms in bf16 on two cores with AMX, as matrix
products 16 ms. The values are those of the convolution, rounded in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Output pixels up to which matrix products were the faster ones, and weights (input times output channels) from which.
LARGEST_MAP = {torch.bfloat16: 16, torch.float32: 9}
FEWEST_WEIGHTS = 2**15


class MatmulConvolutions(TorchFunctionMode):
    """Context in which convolutions with small output maps are matrix products; all others are as ever."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and _is_faster(*args):  # as nn.Conv2d calls it
            images, weight, bias, stride, padding, *_ = args
            number = _computed_in(images)
            output = _Convolution.apply(images.to(number), weight.to(number), stride, padding)
            return output if bias is None else output + bias.to(number).view(-1, 1, 1)
        return func(*args, **(kwargs or {}))


def _computed_in(images: Tensor) -> torch.dtype:
    """Return the number format that autocast, if it is on, computes a convolution of these images in."""
    device = images.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else images.dtype


def _is_faster(
    images: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int
) -> bool:
    plain = groups == 1 and dilation == (1, 1) and isinstance(stride, tuple) and isinstance(padding, tuple)
    if not plain or weight.shape[0] * weight.shape[1] < FEWEST_WEIGHTS:
        return False
    height, width = _output_size(images.shape[2:], weight.shape[2:], stride, padding)
    return 0 < height * width <= LARGEST_MAP.get(_computed_in(images), 0)


def _output_size(
    size: torch.Size, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    height, width = ((size[i] + 2 * padding[i] - kernel[i]) // stride[i] + 1 for i in range(2))
    return height, width


class _Convolution(torch.autograd.Function):
    """`conv2d(images [b, c, h, w], weight [o, c, i, j])`, without dilation, groups and bias."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.stride, ctx.padding = stride, padding
        size = _output_size(images.shape[2:], weight.shape[2:], stride, padding)
        output = _windows(images, weight.shape[2:], stride, padding, size) @ _as_matrix(weight).t()
        return output.view(len(images), *size, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (images, weight), (gradient,) = ctx.saved_tensors, gradients
        channels, kernel = weight.shape[1], weight.shape[2:]
        size = tuple(gradient.shape[2:])
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, len(weight))
        of_images = of_weight = None
        if ctx.needs_input_grad[1]:
            windows = _windows(images, kernel, ctx.stride, ctx.padding, size)
            of_weight = (rows.t() @ windows).view(len(weight), *kernel, channels).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[0]:
            windows = (rows @ _as_matrix(weight)).view(len(images), *size, *kernel, channels)
            of_images = _sum_windows(windows, images.shape[2:], ctx.stride, ctx.padding)
        return of_images, of_weight, None, None


def _as_matrix(weight: Tensor) -> Tensor:
    """Return weights `[o, c, i, j]` as `[o, i * j * c]`; no copy if they are channels_last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _windows(
    images: Tensor, kernel: torch.Size, stride: tuple[int, int], padding: tuple[int, int], size: tuple[int, ...]
) -> Tensor:
    """Return the pixels under the kernel at each output pixel, `[b * h * w, i * j * c]`."""
    padded = F.pad(images, (padding[1], padding[1], padding[0], padding[0])).permute(0, 2, 3, 1).contiguous()
    image, row, column, channel = padded.stride()
    count, channels = len(images), images.shape[1]
    strides = (image, row * stride[0], column * stride[1], row, column, channel)
    windows = padded.as_strided((count, *size, *kernel, channels), strides)
    return windows.reshape(count * size[0] * size[1], -1)


def _sum_windows(windows: Tensor, size: torch.Size, stride: tuple[int, int], padding: tuple[int, int]) -> Tensor:
    """Add windows `[b, h, w, i, j, c]` up to images `[b, c, *size]`: the transpose of `_windows`."""
    count, height, width, rows, columns, channels = windows.shape
    padded = windows.new_zeros(count, size[0] + 2 * padding[0], size[1] + 2 * padding[1], channels)
    for i in range(rows):
        for j in range(columns):
            down = slice(i, i + stride[0] * (height - 1) + 1, stride[0])
            right = slice(j, j + stride[1] * (width - 1) + 1, stride[1])
            padded[:, down, right] += windows[:, :, :, i, j]
    inner = padded[:, padding[0] : padding[0] + size[0], padding[1] : padding[1] + size[1]]
    return inner.permute(0, 3, 1, 2)
