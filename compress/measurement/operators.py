"""Operators with a formula for MACs, and operators known to be cheap; all others are reported, never counted as 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

# Besides what torch tags as element-wise, and views. By name, without the "_" of what works in place.
_CHEAP = frozenset(
    name
    for names in (
        # activations and random numbers
        "hardswish glu prelu _prelu_kernel rrelu_with_noise _softmax _log_softmax _safe_softmax log_sigmoid_forward "
        "native_dropout bernoulli rand_like randn_like uniform normal",
        # normalisation
        "native_batch_norm cudnn_batch_norm miopen_batch_norm _native_batch_norm_legit _batch_norm_with_update "
        "_native_batch_norm_legit_no_training _batch_norm_no_update native_group_norm native_layer_norm "
        "_fused_rms_norm",
        # reductions
        "sum mean amax amin aminmax max min argmax argmin any all prod var var_mean std std_mean logsumexp norm "
        "linalg_vector_norm cumsum cumprod sort topk",
        # pooling, resizing and padding
        "avg_pool1d avg_pool2d avg_pool3d max_pool2d_with_indices max_pool3d_with_indices _adaptive_avg_pool2d "
        "_adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d upsample_nearest1d upsample_nearest2d "
        "upsample_linear1d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
        "_upsample_nearest_exact1d _upsample_nearest_exact2d constant_pad_nd reflection_pad1d reflection_pad2d "
        "replication_pad1d replication_pad2d",
        # copies, rearrangements and look-ups
        "_to_copy copy cat stack repeat roll flip tril triu masked_fill index index_select index_put gather scatter "
        "slice_scatter select_scatter embedding im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle "
        "native_channel_shuffle _unsafe_view _reshape_copy _unsafe_index contiguous resize",
        # new tensors and checks
        "new_zeros new_ones new_empty new_empty_strided new_full zeros_like ones_like empty_like full_like fill zero "
        "_local_scalar_dense _assert_async _assert_tensor_metadata is_same_size",
        # from and to integers, and how quantization is simulated in float
        "quantize_per_tensor quantize_per_channel dequantize fake_quantize_per_tensor_affine_cachemask "
        "fake_quantize_per_channel_affine_cachemask _fused_moving_avg_obs_fq_helper",
    )
    for name in names.split()
)
_CHEAP_QUANTIZERS = "quantize_per_", "dequantize_per_", "choose_qparams_"
_QUANTIZED_LIBRARIES = "quantized", "onednn", "_quantized"

aten = torch.ops.aten
# Products with a vector, which torch's counter lacks: MACs from the arguments.
_VECTORS: dict[Any, Callable[..., int]] = {
    aten.mv: lambda matrix, *_: matrix.numel(),
    aten.addmv: lambda _, matrix, *rest: matrix.numel(),
    aten.dot: lambda vector, *_: vector.numel(),
    aten.vdot: lambda vector, *_: vector.numel(),
}


def packet(operator: Any) -> Any:
    """Return an operator without its overload."""
    return operator._overloadpacket


def has_formula(operator: Any) -> bool:
    """Whether there is a formula for the operator's MACs."""
    return packet(operator) in _VECTORS or packet(operator) in flop_registry


def macs_of_call(operator: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Compute the MACs of one call of an operator with a formula."""
    if packet(operator) in _VECTORS:
        return _VECTORS[packet(operator)](*args)
    return int(flop_registry[packet(operator)](*args, **kwargs, out_val=result)) // 2  # FLOPs, two per MAC


def is_cheap(operator: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call takes a few steps per element and no products in bulk: these have no MACs by convention.

    Such are views, constructors of tensors, operators that torch tags as element-wise, and a table of names. A new
    operator, or one of a library, is not among them and is reported, which is a false alarm at worst.
    """
    library, _, name = str(operator._schema.name).partition("::")
    if library == "quantized_decomposed":
        return name.startswith(_CHEAP_QUANTIZERS)
    if {torch.Tag.pointwise, torch.Tag.inplace_view} & set(operator.tags):
        return True
    aliases = [value.alias_info for value in operator._schema.returns if value.alias_info is not None]
    if any(not alias.is_write for alias in aliases):
        return True
    return library == "aten" and (name.removesuffix("_") in _CHEAP or not _tensors(args, kwargs))


def is_quantized(operator: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call that is not cheap computes with integers instead of floats."""
    integers = (torch.int8, torch.uint8)
    return str(operator).partition(".")[0] in _QUANTIZED_LIBRARIES or any(
        tensor.is_quantized or tensor.dtype in integers for tensor in _tensors(args, kwargs)
    )


def format_calls(calls: Iterable[tuple[str, int]]) -> str:
    """Format operators with their calls: "aten.grid_sampler_2d (2 calls)"."""
    return ", ".join(f"{name} ({count} call{'s' if count > 1 else ''})" for name, count in sorted(calls))


def _tensors(args: Any, kwargs: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
