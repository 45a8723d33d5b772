"""Half precision is enough for networks, not for the small differences that losses are made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import torch
from torch import Tensor

P = ParamSpec("P")


def full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """The same loss, which makes its half precision tensors float32 first and computes outside autocast."""

    @wraps(loss)
    def computed(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        given = [*args, *kwargs.values()]
        device = next(x.device.type for x in given if isinstance(x, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(_full, args), **{name: _full(x) for name, x in kwargs.items()})

    return computed


def _full(x: Any) -> Any:
    return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x
