"""Verdicts on bounds: a figure is shown to keep its bound, shown to break it, or neither.

A pass is claimed only if every figure passes, so each may be tested at its own 95% (intersection-union test, Berger,
Technometrics 24, 1982). A failure is claimed if any figure fails, so that of several tests is at 95% for all of them
together (Bonferroni). Imports no pydantic: `evaluate` runs where only a runtime is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from compress.efficiency.intervals import MIN_IMAGES, images_to_tell, wilson

Verdict = Literal["pass", "fail", "cannot tell"]
Comparison = Literal[">=", "<="]
Ends = tuple[float, float]

EXIT_STATUS: dict[Verdict, int] = {"pass": 0, "fail": 3, "cannot tell": 4}

ROUNDING = 1e-9  # of a figure that is exactly its bound; relative to bounds beyond 1
MAX_MARGIN = 0.99  # of a figure from its bound, beyond which any number of images tells


@dataclass(frozen=True)
class Estimate:
    """A figure, or a change of one, that a rule bounds.

    Attributes:
        value: The figure.
        basis: What it rests on, in words.
        interval: Its interval at a confidence level; None where it is counted and therefore exact.
        images: Test images that it rests on; None where it rests on none.
        variance: Its variance on one image.
    """

    value: float
    basis: str
    interval: Callable[[float], Ends] | None = None
    images: int | None = None
    variance: float = 0.0

    @property
    def is_sampled(self) -> bool:
        """Whether it is an estimate from a sample of test images."""
        return self.interval is not None and self.images is not None


@dataclass(frozen=True)
class Decision:
    """A verdict, with the 95% interval that it rests on and, if neither is shown, the images that could tell.

    `images_needed` is None where images play no part, or where the figure is the bound itself.
    """

    verdict: Verdict
    ends: Ends | None = None
    images_needed: int | None = None


def decide(estimate: Estimate, comparison: Comparison, bound: float, tests: int = 1) -> Decision:
    """Decide whether a figure is shown to keep its bound.

    Args:
        estimate: The figure.
        comparison: Side of the bound that the figure has to be on.
        bound: The bound, in the figure's unit.
        tests: Figures from samples of images that are tested together.
    """
    rounding = ROUNDING * max(1.0, abs(bound))
    if estimate.interval is None:
        slack = rounding * (-1 if comparison == ">=" else 1)
        return Decision("pass" if keeps((estimate.value, estimate.value), comparison, bound + slack) else "fail")
    family = 1 - 0.05 / tests if estimate.is_sampled else 0.95
    ends, wide = estimate.interval(0.95), estimate.interval(family)
    enough = estimate.images is None or estimate.images >= MIN_IMAGES
    if enough and keeps(ends, comparison, bound):
        return Decision("pass", ends)
    if enough and breaks(wide, comparison, bound):
        return Decision("fail", ends)
    margin = min(abs(estimate.value - bound), MAX_MARGIN)
    if estimate.images is None or margin <= rounding:
        return Decision("cannot tell", ends)
    within = keeps((estimate.value, estimate.value), comparison, bound)
    needed = images_to_tell(estimate.variance, margin, 0.95 if within else family)
    return Decision("cannot tell", ends, max(needed, estimate.images + 1))  # an approximation; these were too few


def keeps(ends: Ends, comparison: Comparison, bound: float) -> bool:
    """Return whether a whole interval keeps a bound."""
    return ends[0] >= bound if comparison == ">=" else ends[1] <= bound


def breaks(ends: Ends, comparison: Comparison, bound: float) -> bool:
    """Return whether a whole interval is beyond a bound."""
    return ends[1] < bound if comparison == ">=" else ends[0] > bound


def share(correct: int, n: int, basis: str) -> Estimate:
    """Estimate a share, with Wilson's interval."""
    top1 = correct / n
    return Estimate(top1, basis, lambda confidence: wilson(correct, n, confidence), n, top1 * (1 - top1))


def overall(verdicts: Iterable[Verdict]) -> Verdict:
    """Combine verdicts: a failure of one is that of all, then what cannot be told."""
    found = set(verdicts)
    return "fail" if "fail" in found else "cannot tell" if "cannot tell" in found else "pass"
