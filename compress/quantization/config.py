"""How a network is quantized, whichever method does it, and what no method can quantize."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compress.utils.errors import CompressError


@dataclass(frozen=True)
class Scheme:
    """How a network is quantized.

    Attributes:
        observer: What finds the range of an activation; each method says which it has, and its own comes first.
        percentile: Share of an activation's values, in percent, that its range holds; of `percentile` only.
        reduce_range: Weights of 7 bits in INT8, which do not overflow without VNNI.
        keep: Names of layers that stay in float.
        bias_correction: `off`, or how the mean error of a layer is taken out of its bias: `fast`, or `full`, layer by
            layer.
        equalize: Whether neighbouring layers' channels are brought to one range first (cross-layer equalisation,
            arXiv 1906.04721).
        aware: Whether the network is trained with integers simulated in it.
        target: `x86` (activations unsigned, with zero points) or `portable` (everything signed and symmetric: zero
            points are 0), which is what TensorRT takes.
        linear_weight_bits: 8, or 4 of methods that quantize files: of linear layers, whose activations are rounded as
            they come then. Convolutions stay at 8.
    """

    observer: str | None = None
    percentile: float = 99.9
    reduce_range: bool = True
    keep: tuple[str, ...] = ()
    bias_correction: str = "off"
    equalize: bool = False
    aware: bool = False
    target: str = "x86"
    linear_weight_bits: int = 8


DEFAULT = Scheme()


def refuse_broken_weights(model: nn.Module) -> None:
    """Refuse a network that has NaN or infinite weights, naming the first.

    Raises:
        CompressError: there is such a weight.
    """
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CompressError(f"the weight {name} holds NaN or infinite values: this network cannot be quantized")


def refuse_calibration(batches: Iterable[Tensor], what: str = "calibration") -> None:
    """Refuse images of which no range of an activation can be learnt.

    Args:
        batches: Images `[b, 3, r, r]`.
        what: What they are called in the message.

    Raises:
        CompressError: there are none, one is not finite, or each is of one flat colour.
    """
    images, varied = 0, False
    for batch in batches:
        if not torch.isfinite(batch).all():
            raise CompressError(f"a {what} image holds NaN or infinite values")
        images += len(batch)
        varied = varied or bool((batch.flatten(2).amax(2) != batch.flatten(2).amin(2)).any())
    if not images:
        raise CompressError(f"there are no {what} images")
    if not varied:
        raise CompressError(
            f"each of the {images} {what} images is one flat colour (all black, say): "
            "no activation range can be learnt from them"
        )
