"""Training efficiency: compute to reach an accuracy, of a baseline against a variant."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from compress.efficiency.compute import BASELINE, continued, earlier_macs, trained_teacher
from compress.efficiency.curves import Curve, Floats, Reached, earliest, measured_curves, reach
from compress.efficiency.months import in_months
from compress.results.base import Censored, MacsBracket, OpenInterval
from compress.results.savings import PretrainingRatio, TrainingEfficiency, Trend
from compress.results.variant import Variant

LONGER = "match"  # the kind of stage that trains a baseline for as much compute as a variant took
QUANTIZED = "quantize"

TargetOf = Literal["variant", "baseline", "recipe"]


@dataclass(frozen=True)
class Comparison:
    """Doublings of training efficiency at one accuracy, positive where the variant took less compute.

    Attributes:
        doublings: log2 of compute of the baseline / compute of the variant; a lower bound where the baseline never
            reaches the accuracy, an upper bound where the variant does not; None where neither does, or where a first
            point reaches it already, so that there is only the bracket.
        censored: Which of the two never reaches it.
        bracket: Doublings by the points before and at the accuracy; None at an end without a bound.
        ci95: Bootstrap interval of the doublings over validation images; None without results per image.
    """

    doublings: float | None
    censored: Censored | None
    bracket: OpenInterval
    ci95: OpenInterval | None

    @property
    def ratio(self) -> float | None:
        return None if self.doublings is None else 2**self.doublings


def compare_curves(baseline: Reached, variant: Reached, extra: float = 0.0, baseline_extra: float = 0.0) -> Comparison:
    """Compare the compute with which two curves reach the same accuracy.

    Args:
        baseline: Compute of the baseline.
        variant: Compute of the variant.
        extra: MACs to add to the variant's, such as its teacher's own training.
        baseline_extra: MACs to add to the baseline's, such as those of the weights that it starts from.
    """
    extras = (baseline_extra, extra)
    lows, highs = _doublings(baseline.ends, variant.ends, extras)
    bracket = _doublings((baseline.low, baseline.high), (variant.low, variant.high), extras)
    without = [name for name, one in (("baseline", baseline), ("variant", variant)) if math.isinf(one.high[0])]
    low, high = float(lows[0]), float(highs[0])
    censored = cast(Censored | None, "both" if len(without) == 2 else next(iter(without), None))
    estimate = {"both": None, "baseline": low, "variant": high}[censored] if censored else low if low == high else None
    return Comparison(
        doublings=estimate if estimate is not None and math.isfinite(estimate) else None,
        censored=censored,
        bracket=(_finite(bracket[0][0]), _finite(bracket[1][0])),
        ci95=_interval(lows[1:], highs[1:]) if len(lows) > 1 and len(lows) == len(highs) else None,
    )


def _doublings(
    baseline: tuple[Floats, Floats], variant: tuple[Floats, Floats], extras: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Lower and upper end of the doublings from those of the two computes, with MACs to add to each."""
    with np.errstate(divide="ignore", invalid="ignore"):
        lows = np.log2(baseline[0] + extras[0]) - np.log2(variant[1] + extras[1])
        highs = np.log2(baseline[1] + extras[0]) - np.log2(variant[0] + extras[1])
    # Nothing is known where one end is 0 or both are infinite.
    return np.nan_to_num(lows, nan=-np.inf, neginf=-np.inf), np.nan_to_num(highs, nan=np.inf, posinf=np.inf)


def _interval(lows: Floats, highs: Floats) -> OpenInterval:
    """Percentiles of resamples; where one has only bounds, its lower one counts below and its upper one above."""
    ends = np.quantile(lows, 0.025, method="lower"), np.quantile(highs, 0.975, method="higher")
    return _finite(ends[0]), _finite(ends[1])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def training_efficiency(
    variants: Sequence[Variant], trend: Trend, date: float, targets: Sequence[float] = (), images: int = 0
) -> tuple[TrainingEfficiency, ...]:
    """Compare every variant that was trained or made from one that was with every baseline trained on labels.

    Controls, and what is quantized from them, claim no saving and have no rows.

    A baseline is a `train` stage with its `match` stages, other than the variant's own teacher: the earliest of their
    curves counts, so that it has the best schedule for every accuracy. The first point at or above P counts for the
    baseline. A variant must stay there to the end of its training, unless its best point is kept. P is the accuracy of
    the variant, that of the baseline after its longest training, and each of `targets`.

    Args:
        variants: All variants. Those whose checkpoint was selected on test images are left out.
        trend: Growth of training compute and of hardware.
        date: Year of the run, with a fraction; beyond its data a trend gives no months.
        targets: More accuracies P, fractions.
        images: Validation images, to resample; 0 for no intervals.
    """
    by_id = {variant.id: variant for variant in variants}
    usable = {v.id: v.training for v in variants if v.training.curve and v.training.selected_on != "test"}
    curves = measured_curves(usable, images)
    baselines = {v.id: [curves[v.id]] for v in variants if v.kind == BASELINE and v.id in curves}
    for variant in variants:
        repeats = variant.control.repeats if variant.control else None
        if variant.id in curves and repeats in baselines:
            baselines[repeats].append(curves[variant.id])
    rows: list[TrainingEfficiency] = []
    for variant in variants:
        own = _own_curve(variant, by_id, curves)
        if own is not None and not _is_control(by_id[own.id]):
            teacher = trained_teacher(variant, by_id)
            others = {name: lengths for name, lengths in baselines.items() if by_id[name] is not teacher}
            pairs = [_pair(by_id[name], lengths, variant, own) for name, lengths in others.items()]
            rows += _with_primary([row for pair in pairs for row in pair.rows(trend, date, targets)])
    return tuple(rows)


def _is_control(variant: Variant) -> bool:
    """Whether a variant is what others are held against: a baseline, or a control of a variant."""
    return variant.kind in (BASELINE, LONGER) or variant.control is not None


def _own_curve(variant: Variant, by_id: Mapping[str, Variant], curves: Mapping[str, Curve]) -> Curve | None:
    """Return the curve of a variant; None without one.

    Of one quantized without training it is that of its parent, with what it took on top, lowered to its own accuracy on
    validation: only there is known what quantization loses, at the end of training.
    """
    ancestor: Variant | None = variant
    while ancestor and not ancestor.training.curve:
        ancestor = continued(ancestor, by_id) if ancestor.kind == QUANTIZED else None
    if ancestor is None or ancestor.id not in curves:
        return None
    parent = continued(ancestor, by_id)
    found = replace(curves[ancestor.id], floor=float(parent.training.macs) if parent else 0.0)
    if ancestor is variant:
        return found
    if variant.validation is None:
        return None
    lost = found.kept[0] - variant.validation.top1
    return replace(found, top1=found.top1 - lost).shifted(variant.training.macs - ancestor.training.macs)


@dataclass(frozen=True)
class _Pair:
    """A baseline with the curves of all of its lengths, and a variant with its curve."""

    baseline: Variant
    lengths: Sequence[Curve]
    variant: Variant
    own: Curve

    def rows(self, trend: Trend, date: float, targets: Sequence[float]) -> Iterator[TrainingEfficiency]:
        longest = max(self.lengths, key=lambda curve: curve.macs[-1])
        yield self._row("variant", self.own.kept, trend, date)
        yield self._row("baseline", longest.kept, trend, date)
        for target in targets:
            yield self._row("recipe", np.full(len(self.own.top1), target), trend, date)

    def _row(self, origin: TargetOf, target: Floats, trend: Trend, date: float) -> TrainingEfficiency:
        (base, length), own = earliest(self.lengths, target), reach(self.own, target, stays=not self.own.selects)
        found, teacher = compare_curves(base, own), self.variant.training.teacher_pretraining
        full = self._in_full(base, own)
        is_full = full.doublings is not None and full.doublings == found.doublings and not found.censored
        months = in_months(found.doublings if is_full else None, trend, date, training=True)
        tuned = teacher.fine_tuning if teacher else None
        return TrainingEfficiency(
            baseline=self.baseline.id,
            variant=self.variant.id,
            target_top1=float(np.clip(target[0], 0, 1)),
            target_of=origin,
            chosen=origin == "recipe",
            baseline_curve=self.lengths[length].id,
            variant_curve=self.own.id,
            baseline_macs=_whole(base.macs[0]),
            variant_macs=_whole(own.macs[0]),
            baseline_between=_between(base),
            variant_between=_between(own),
            ratio=found.ratio,
            censored=found.censored,
            doublings=found.doublings,
            doublings_ci95=found.ci95,
            bracket=found.bracket,
            with_teacher_fine_tuning=None if tuned is None else _with_teacher(base, own, tuned),
            with_teacher_pretraining=full,
            months_of_growth=months.months_of_growth,
            months_of_gap=months.months_of_gap,
        )

    def _in_full(self, base: Reached, own: Reached) -> PretrainingRatio:
        """Add the teacher's own training, and that of the weights that either of the two starts from."""
        baseline, variant = earlier_macs(self.baseline), earlier_macs(self.variant)
        if baseline is None or variant is None:
            return PretrainingRatio(macs=None, ratio=None, doublings=None)
        return _with_teacher(base, own, variant, baseline)


def _pair(baseline: Variant, lengths: Sequence[Curve], variant: Variant, own: Curve) -> _Pair:
    """Pair a baseline and a variant; without resamples of one of their curves, there are none of the others."""
    common = min(len(curve.top1) for curve in (own, *lengths))
    own, *lengths = [replace(curve, top1=curve.top1[:common]) for curve in (own, *lengths)]
    return _Pair(baseline, lengths, variant, own)


def _with_teacher(base: Reached, own: Reached, macs: float, baseline_macs: float = 0.0) -> PretrainingRatio:
    """Add earlier training to the compute of the variant, and of the baseline."""
    found = compare_curves(base, own, macs, baseline_macs)
    return PretrainingRatio(
        macs=macs, ratio=found.ratio, doublings=found.doublings, doublings_ci95=found.ci95, bracket=found.bracket
    )


def _whole(macs: float) -> int | None:
    return None if math.isnan(macs) else round(float(macs))


def _between(reached: Reached) -> MacsBracket:
    low, high = float(reached.low[0]), float(reached.high[0])
    return round(low), None if math.isinf(high) else round(high)


def _with_primary(rows: Sequence[TrainingEfficiency]) -> list[TrainingEfficiency]:
    """Mark the row that the variant is judged by: at its own accuracy, against the baseline that needs the least.

    Earlier training counts where it is known. Where no baseline reaches that accuracy, the highest bound says
    the most.
    """

    def strictness(row: TrainingEfficiency) -> tuple[bool, bool, float]:
        full = row.with_teacher_pretraining
        known = full if full.macs is not None else row
        value = known.doublings if known.doublings is not None else (known.bracket or (None,))[0]
        value = -math.inf if value is None else value
        return full.macs is None, row.censored is not None, -value if row.censored else value

    own = min((row for row in rows if row.target_of == "variant"), key=strictness, default=None)
    return [row.model_copy(update={"primary": True}) if row is own else row for row in rows]
