"""The training ledger's ratio: compute to reach an accuracy, of a baseline against a variant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth, ratio

BASELINES = ("train",)
COMPARED = ("distill",)
"""Kinds of stage that start from no trained student, so that their curves hold all of their compute."""

Curve = Sequence[Mapping[str, float]]


def macs_to_reach(curve: Curve, top1: float) -> float | None:
    """Compute of the first measured point that is at least so accurate; None where none is.

    Points are not interpolated: a coarse curve gives too much compute, never too little.

    Args:
        curve: Points {macs, top1}: all MACs spent so far, and accuracy (a fraction) with them.
        top1: Accuracy to reach, a fraction.
    """
    return min((point["macs"] for point in curve if point["top1"] >= top1), default=None)


def training_ratio(
    baseline: Curve, variant: Curve, top1: float, pretraining: float | None = 0.0
) -> tuple[float | None, bool]:
    """R_train(P): compute of the baseline to reach P over compute of the variant to reach P.

    Args:
        baseline: The baseline's curve.
        variant: The variant's curve.
        top1: P, a fraction.
        pretraining: MACs to add to the variant's side: its teacher's own pre-training. None where not known.

    Returns:
        The ratio, and whether it is censored. Where the baseline never reaches P the ratio is "at least" this much
        and censored; where the variant never does, it is None and censored.
    """
    reached, spent = macs_to_reach(baseline, top1), macs_to_reach(variant, top1)
    if spent is None:
        return None, True
    most = max((point["macs"] for point in baseline), default=None) if reached is None else reached
    return (None if pretraining is None else ratio(most, spent + pretraining)), reached is None


def training_efficiency(
    variants: Iterable[Mapping[str, Any]], trend: Mapping[str, Any], reach: Sequence[float] = ()
) -> list[dict[str, Any]]:
    """The `training_efficiency` entries of `results.json`: every distilled variant against every baseline.

    P is the accuracy of the last point of the baseline's curve, and each of `reach`. The accuracies of curves are
    validation accuracies of one run each: the ratio has no interval.

    Args:
        variants: Variant records of `results.json`. Baselines are of the kinds `BASELINES`, variants of `COMPARED`.
        trend: {growth, hardware, ...}, times a year.
        reach: More accuracies P, fractions.

    Returns:
        One entry a P and a pair in which both have a curve. `chosen` says whether P is one of `reach`. The teacher's
        own training, which the variant says in `training.teacher_pretraining.macs`, is in `with_teacher_pretraining`
        only.
    """
    records = [variant for variant in variants if _is_comparable(variant.get("training") or {})]
    return [
        _entry(baseline, variant, trend, target)
        for baseline in records
        if baseline["kind"] in BASELINES
        for variant in records
        if variant["kind"] in COMPARED
        for target in (None, *reach)
    ]


def _is_comparable(training: Mapping[str, Any]) -> bool:
    """Whether there is a curve, and not one of the test images."""
    return bool(training.get("curve")) and training.get("selected_on") != "test"


def _entry(
    baseline: Mapping[str, Any], variant: Mapping[str, Any], trend: Mapping[str, Any], chosen: float | None
) -> dict[str, Any]:
    theirs, ours = baseline["training"]["curve"], variant["training"]["curve"]
    target = max(theirs, key=lambda point: point["macs"])["top1"] if chosen is None else chosen
    pretraining = (variant["training"].get("teacher_pretraining") or {}).get("macs")
    times, censored = training_ratio(theirs, ours, target)
    with_teacher, _ = training_ratio(theirs, ours, target, pretraining)
    d = doublings(times)
    return {
        "baseline": baseline["id"],
        "variant": variant["id"],
        "target_top1": target,
        "chosen": chosen is not None,
        "baseline_macs": macs_to_reach(theirs, target),
        "variant_macs": macs_to_reach(ours, target),
        "ratio": times,
        "censored": censored,
        "doublings": d,
        "with_teacher_pretraining": {"ratio": with_teacher, "doublings": doublings(with_teacher)},
        "months_of_growth": months_of_growth(d, trend["growth"]),
        "months_of_gap": months_of_gap(d, trend["growth"], trend["hardware"]),
    }
