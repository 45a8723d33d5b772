"""Tensor functions that several losses share, and float32 arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a loss cast half precision tensors to float32 and compute outside autocast.

    Half precision is enough for networks, not for the small differences that losses are made of.
    """

    @wraps(loss)
    def computed(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        import torch

        def cast(value: Any) -> Any:
            is_half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
            return value.float() if is_half else value

        device = next(x.device.type for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return computed


def kl_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(student)) of logits `[batch, classes]`, the mean over images."""
    import torch.nn.functional as F

    return F.kl_div(F.log_softmax(student, 1), F.log_softmax(teacher, 1), reduction="batchmean", log_target=True)


def one_if_constant(divisor: Tensor, rows: Tensor) -> Tensor:
    """Return `divisor` `[n, 1]` with 1 for those `rows` `[n, k]` whose numbers are all the same.

    A classifier that is initialized to 0 gives such rows. They have no scale to take out, and the epsilon in the
    divisor would make their gradients 1e7 times as large.
    """
    import torch

    constant = rows.amax(1, keepdim=True) == rows.amin(1, keepdim=True)
    return torch.where(constant, 1.0, divisor)


def unit(x: Tensor) -> Tensor:
    """Scale vectors `[..., width]` to length 1; zero vectors stay 0, with a gradient of ordinary size."""
    import torch

    length = x.norm(dim=-1, keepdim=True)
    return x / torch.where(length > 0, length, 1.0)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two maps `[batch, channels, height, width]` to the smaller, in each direction."""
    import torch.nn.functional as F

    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return F.adaptive_avg_pool2d(student, size), F.adaptive_avg_pool2d(teacher, size)
