"""Mixed precision: find the layers that must stay in float for a quantized network to be accurate enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from torch import Tensor, nn

from compress.efficiency.collapse import COLLAPSE
from compress.quantization.method import Quantized
from compress.utils.console import task
from compress.utils.errors import CompressError


@dataclass(frozen=True)
class Trial:
    """One quantized network of a search."""

    keep: tuple[str, ...]  # its layers in float
    top1: float  # its accuracy, a fraction
    observer: str | None = None  # observer of its activation ranges; None for that of the settings


@dataclass(frozen=True)
class SearchResult:
    """Result of a search."""

    quantized: Quantized  # the quantized network that is accurate enough
    keep: tuple[str, ...]  # its layers in float, the most sensitive first
    # by layer, the mean squared error of the logits if it alone is quantized; empty if no layer had to stay in float
    sensitivity: dict[str, float]
    trials: tuple[Trial, ...]  # every network whose accuracy was measured, in order
    observer: str | None = None  # observer of its activation ranges; None for that of the settings


def search_mixed_precision(
    make: Callable[[tuple[str, ...], str | None], Quantized],
    logits: Callable[[nn.Module], Tensor],
    labels: Tensor,
    float_logits: Tensor,
    allowed: float,
    observers: Sequence[str] = (),
) -> SearchResult:
    """Keep the most sensitive layers in float, as few as necessary for the accuracy.

    If INT8 collapses, the other `observers` are tried first, as ranges cost nothing at run time. The search continues
    with the most accurate.

    Layers are ranked by the error of the logits if they alone are quantized; those that the method cannot quantize
    alone come first. The number of layers in float is found by bisection, on the assumption that more of them are never
    less accurate; a network that cannot be quantized is not accurate enough.
    `make` quantizes all but the given layers with an observer, `logits` computes a network's logits on validation,
    `[images, classes]`, and `allowed` is a loss of accuracy, a fraction.

    Raises:
        CompressError: even one quantized layer loses more.
    """
    trials: list[Trial] = []
    target = _top1(float_logits, labels) - allowed

    def attempt(keep: tuple[str, ...], observer: str | None) -> tuple[Quantized, bool]:
        quantized = make(keep, observer)
        trials.append(Trial(keep, _top1(logits(quantized.network), labels), observer))
        return quantized, trials[-1].top1 >= target - 1e-9

    first, holds = attempt((), None)
    if not holds and target + allowed - trials[0].top1 >= COLLAPSE - 1e-9:
        for other in observers:
            first, holds = attempt((), other)
            if holds:
                break
    observer = trials[-1].observer if holds else max(trials, key=lambda trial: trial.top1).observer
    if holds:
        return SearchResult(first, (), {}, tuple(trials), observer)
    layers, errors = list(first.layers), {}
    with task("sensitivity", len(layers)) as advance:
        for name in layers:
            with suppress(CompressError):
                alone = make(tuple(other for other in layers if other != name), observer)
                errors[name] = float((logits(alone.network) - float_logits).square().mean())
            advance()
    order = sorted(layers, key=lambda name: -errors.get(name, math.inf))
    low, high, best, failure = 0, len(order), None, ""  # `low` layers in float are not enough
    while high - low > 1:
        middle = (low + high) // 2
        try:
            made, holds = attempt(tuple(order[:middle]), observer)
            failure = ""
        except CompressError as error:
            holds, failure = False, str(error)
        if holds:
            high, best = middle, made
        else:
            low = middle
    if best is None:
        measured = f"top-1 on validation is {trials[-1].top1:.1%} instead of {target + allowed:.1%}"
        raise CompressError(
            f"keep_accuracy {allowed:g} cannot be reached: with {order[-1]} alone in INT8, {failure or measured}"
        )
    return SearchResult(best, tuple(order[:high]), errors, tuple(trials), observer)


def _top1(logits: Tensor, labels: Tensor) -> float:
    return int((logits.argmax(1) == labels).sum()) / len(labels)
