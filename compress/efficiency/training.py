"""Training efficiency: compute to reach an accuracy, of a baseline against a variant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth, ratio
from compress.results.savings import PretrainingRatio, TrainingEfficiency, Trend
from compress.results.training import Training
from compress.results.variant import Variant

BASELINES = ("train",)
COMPARED = ("distill",)
"""Kinds of stage that start from no trained student, so that their curves hold all of their compute."""

Curve = Sequence[tuple[int, float]]
"""Points (MACs spent so far, top-1 with them as a fraction)."""


def macs_to_reach(curve: Curve, top1: float) -> int | None:
    """Find the compute of the first measured point that is at least as accurate; None where there is none.

    Points are not interpolated: a coarse curve gives too much compute, never too little.

    Args:
        curve: Points (MACs, top-1).
        top1: Accuracy to reach, a fraction.
    """
    return min((macs for macs, reached in curve if reached >= top1), default=None)


def training_ratio(
    baseline: Curve, variant: Curve, top1: float, pretraining: float | None = 0.0
) -> tuple[float | None, bool]:
    """Compute R_train(P): compute of the baseline to reach P / compute of the variant to reach P.

    Args:
        baseline: Curve of the baseline.
        variant: Curve of the variant.
        top1: P, a fraction.
        pretraining: MACs to add to the variant's side: its teacher's own training. None where they are unknown.

    Returns:
        The ratio, and whether it is censored. Where the baseline never reaches P the ratio is a lower bound and
        censored; where the variant never does, it is None and censored.
    """
    reached, spent = macs_to_reach(baseline, top1), macs_to_reach(variant, top1)
    if spent is None:
        return None, True
    bound = max((macs for macs, _ in baseline), default=None) if reached is None else reached
    return (None if pretraining is None else ratio(bound, spent + pretraining)), reached is None


def training_efficiency(
    variants: Iterable[Variant], trend: Trend, reach: Sequence[float] = ()
) -> tuple[TrainingEfficiency, ...]:
    """Compare every distilled variant with every baseline trained on labels.

    P is the accuracy of the last point of the baseline's curve, and each of `reach`. Curves hold validation accuracies
    of one run each: the ratio has no interval.

    Args:
        variants: All variants. Baselines are of the kinds `BASELINES`, variants of `COMPARED`.
        trend: Growth of training compute and of hardware.
        reach: More accuracies P, fractions.

    Returns:
        One entry per P and pair in which both have a curve. `chosen` tells whether P is one of `reach`. The teacher's
        own training is in `with_teacher_pretraining` only.
    """
    comparable = [variant for variant in variants if _is_comparable(variant.training)]
    return tuple(
        _entry(baseline, variant, trend, target)
        for baseline in comparable
        if baseline.kind in BASELINES
        for variant in comparable
        if variant.kind in COMPARED
        for target in (None, *reach)
    )


def _is_comparable(training: Training) -> bool:
    """Whether there is a curve, and the test images were not used for selection."""
    return bool(training.curve) and training.selected_on != "test"


def _entry(baseline: Variant, variant: Variant, trend: Trend, chosen: float | None) -> TrainingEfficiency:
    base, own = ([(point.macs, point.top1) for point in one.training.curve] for one in (baseline, variant))
    target = max(base, key=lambda point: point[0])[1] if chosen is None else chosen
    pretraining = variant.training.teacher_pretraining
    times, censored = training_ratio(base, own, target)
    with_teacher, _ = training_ratio(base, own, target, pretraining.macs if pretraining else None)
    d = doublings(times)
    return TrainingEfficiency(
        baseline=baseline.id,
        variant=variant.id,
        target_top1=target,
        chosen=chosen is not None,
        baseline_macs=macs_to_reach(base, target),
        variant_macs=macs_to_reach(own, target),
        ratio=times,
        censored=censored,
        doublings=d,
        with_teacher_pretraining=PretrainingRatio(ratio=with_teacher, doublings=doublings(with_teacher)),
        months_of_growth=months_of_growth(d, trend.growth),
        months_of_gap=months_of_gap(d, trend.growth, trend.hardware),
    )
