"""Attention in the one form that exporters know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class FourDimensionalAttention(TorchFunctionMode):
    """Gives `scaled_dot_product_attention` tensors `[b, h, n, c]`, the only ones that ONNX's exporter translates.

    Networks also call it for one head, `[b, n, c]`, or for windows, `[b, w, h, n, c]`.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return _attend(func, *args, **kwargs)


def _attend(
    func: Callable[..., Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    *args: Any,
    **kwargs: Any,
) -> Tensor:
    leading = query.shape[:-2]
    if len(leading) in (0, 2) or key.shape[:-2] != leading or value.shape[:-2] != leading:
        return func(query, key, value, attn_mask, *args, **kwargs)
    if attn_mask is not None and attn_mask.ndim > 2:
        attn_mask = attn_mask.expand(*leading, *attn_mask.shape[-2:])
    tensors = [each if each is None or each.ndim == 2 else _folded(each) for each in (query, key, value, attn_mask)]
    mixed = func(*tensors, *args, **kwargs)
    return mixed.reshape(*leading, *mixed.shape[-2:])


def _folded(tensor: Tensor) -> Tensor:
    return tensor.unsqueeze(1) if tensor.ndim == 3 else tensor.flatten(0, -4)
