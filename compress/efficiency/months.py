"""Savings and losses of a run in months of a trend: the rows of "The compute gap"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from compress.efficiency.doublings import months_of_gap, months_of_growth
from compress.results.headline import Bound, SavingInMonths
from compress.results.savings import Savings, TrainingEfficiency


def savings_in_months(
    efficiency: Iterable[Savings], training: Iterable[TrainingEfficiency], growth: float, hardware: float
) -> tuple[SavingInMonths, ...]:
    """List the doublings at equal accuracy, gains and losses alike: of inference where granted, and of training.

    Training compute counts at the accuracy that the baseline ends with. Where one of the two never reaches it, the
    doublings are a bound; a bound on a loss says nothing about months, and has none.

    Args:
        efficiency: Savings by reference.
        training: Compute to reach an accuracy.
        growth: Growth of training compute, factor per year.
        hardware: Growth of hardware, factor per year.
    """
    rows = [*_inference(efficiency), *_training(training)]
    return tuple(_in_months(*row, growth, hardware) for row in rows)


Row = tuple[Literal["inference", "training"], str, str, float, Bound | None]


def _inference(efficiency: Iterable[Savings]) -> Iterator[Row]:
    for entry in efficiency:
        for variant in entry.variants:
            if variant.granted and variant.doublings.macs is not None:
                yield "inference", variant.id, entry.reference, variant.doublings.macs, None


def _training(pairs: Iterable[TrainingEfficiency]) -> Iterator[Row]:
    for pair in pairs:
        if pair.doublings is not None and not pair.chosen:
            yield "training", pair.variant, pair.baseline, pair.doublings, pair.bound


def _in_months(
    of: Literal["inference", "training"],
    variant: str,
    against: str,
    doublings: float,
    bound: Bound | None,
    growth: float,
    hardware: float,
) -> SavingInMonths:
    says_nothing = (bound == "at least" and doublings <= 0) or (bound == "at most" and doublings >= 0)
    known = None if says_nothing else doublings
    delays_gap = of == "training" and hardware < growth
    return SavingInMonths(
        of=of,
        variant=variant,
        against=against,
        doublings=doublings,
        bound=bound,
        months_of_growth=months_of_growth(known, growth),
        months_of_gap=months_of_gap(known, growth, hardware) if delays_gap else None,
    )
