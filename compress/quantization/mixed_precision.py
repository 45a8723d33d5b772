"""Which layers must stay in float for a quantized network to be as accurate as was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from compress.quantization.method import Quantized
from compress.utils.console import task
from compress.utils.errors import CompressError


@dataclass(frozen=True)
class Trial:
    """One quantized network of the search: the layers that were in float, and its accuracy, a fraction."""

    keep: tuple[str, ...]
    top1: float


@dataclass(frozen=True)
class Search:
    """What was found.

    Attributes:
        quantized: The quantized network that holds.
        keep: Its layers in float, the most sensitive first.
        sensitivity: By layer, the mean squared error of the logits where it alone is quantized; empty where no layer
            had to go back.
        trials: Every network whose accuracy was taken, in order.
    """

    quantized: Quantized
    keep: tuple[str, ...]
    sensitivity: dict[str, float]
    trials: tuple[Trial, ...]


def search(
    make: Callable[[tuple[str, ...]], Quantized],
    logits: Callable[[nn.Module], Tensor],
    labels: Tensor,
    float_logits: Tensor,
    allowed: float,
) -> Search:
    """Return the most sensitive layers to float, as few as it takes.

    Layers are ranked by what quantizing them alone does to the logits. How many of them stay in float is found by
    bisection, as if more of them were never less accurate.

    Args:
        make: Quantizes the network but for the layers named.
        logits: Computes the logits of a network for the validation images, `[images, classes]`.
        labels: Their labels, `[images]`.
        float_logits: What the float network answers.
        allowed: Loss of accuracy that is allowed, a fraction.

    Raises:
        CompressError: not even one quantized layer holds the accuracy.
    """
    trials: list[Trial] = []
    target = _top1(float_logits, labels) - allowed

    def tried(keep: tuple[str, ...]) -> tuple[Quantized, bool]:
        quantized = make(keep)
        trials.append(Trial(keep, _top1(logits(quantized.network), labels)))
        return quantized, trials[-1].top1 >= target - 1e-9

    first, holds = tried(())
    if holds:
        return Search(first, (), {}, tuple(trials))
    layers, errors = list(first.layers), {}
    with task("sensitivity", len(layers)) as advance:
        for name in layers:
            alone = make(tuple(other for other in layers if other != name))
            errors[name] = float((logits(alone.network) - float_logits).square().mean())
            advance()
    order = sorted(layers, key=lambda name: -errors[name])
    low, high, best = 0, len(order), None  # `low` of them in float do not hold
    while high - low > 1:
        middle = (low + high) // 2
        made, holds = tried(tuple(order[:middle]))
        if holds:
            high, best = middle, made
        else:
            low = middle
    if best is None:
        raise CompressError(
            f"keep_accuracy {allowed:g} cannot be held: with {order[-1]} alone in INT8, top-1 on validation is "
            f"{trials[-1].top1:.1%} instead of {target + allowed:.1%}"
        )
    return Search(best, tuple(order[:high]), errors, tuple(trials))


def _top1(logits: Tensor, labels: Tensor) -> float:
    return int((logits.argmax(1) == labels).sum()) / len(labels)
