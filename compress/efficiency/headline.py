"""The result of a run in figures: what the first sentence of its report says, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log2

from compress.efficiency.compute import compute_in_full
from compress.efficiency.files import name_of
from compress.efficiency.months import closed, in_months, known_doublings, shown
from compress.efficiency.slower import against_float, ever_slower
from compress.results.deployment import DeviceProfile
from compress.results.headline import Headline, HeadlineFile, InferenceDoublings, LifetimeDoublings, TrainingDoublings
from compress.results.savings import FileSavings, Savings, TrainingEfficiency, Trend, VariantSavings
from compress.results.variant import Variant
from compress.utils.precision import file_name

QUERIES = 10**9
"""Queries of the lifetime where the recipe names no deployment."""


def headline(
    variants: Sequence[Variant],
    efficiency: Sequence[Savings],
    training: Sequence[TrainingEfficiency],
    date: float,
    deployment: DeviceProfile | None = None,
) -> Headline:
    """Find the cheapest variant that is granted against the recipe's first reference, and what it saves.

    Of several references, the first that happens to grant something would be wrong more often than a single test.

    Args:
        variants: All variants of the run.
        efficiency: Savings by reference, in the recipe's order.
        training: Compute to reach an accuracy.
        date: Year of the run, with a fraction; beyond its data a trend gives no months.
        deployment: Names the queries over the lifetime.
    """
    by_id = {variant.id: variant for variant in variants}
    first = next((savings for savings in efficiency if savings.variants), None)
    if first is None:
        return Headline(granted=False, reference=None, variant=None, tolerance=None)
    if best := cheapest(first.variants):
        return _granted(first, best, by_id, training, date, deployment)
    return _refused(first, date)


def _refused(savings: Savings, date: float) -> Headline:
    """Name the variant whose test ended the sequence; None where no cheaper variant was tested."""
    refused = next((v for v in savings.variants if v.tested and not v.granted and max(_saved(v)) > 0), None)
    reasons = [v.reason for v in savings.variants if not v.tested and max(_saved(v)) > 0]
    reasons += [
        f"{v.id} takes no fewer MACs, and that it takes fewer bit operations is not shown"
        for v in savings.variants
        if v.tested and v.doublings.bit_operations is None and not v.doublings.macs
    ]
    if refused is None:
        return Headline(
            granted=False,
            reference=savings.reference,
            variant=None,
            tolerance=savings.tolerance,
            metric=savings.metric,
            reason=next(iter(reasons), None),
        )
    return Headline(
        granted=False,
        reference=savings.reference,
        variant=refused.id,
        tolerance=savings.tolerance,
        metric=savings.metric,
        images=refused.paired.images if refused.paired else None,
        loss=refused.accuracy_difference,
        loss_ci95=refused.difference_ci95,
        reason=refused.reason,
        inference=_inference(refused, savings.trend, date),
    )


def is_saving(variant: VariantSavings) -> bool:
    """Whether a variant is as accurate as the reference *and* cheaper in MACs or bit operations."""
    return variant.granted and max(_saved(variant)) > 0


def cheapest(variants: Iterable[VariantSavings]) -> VariantSavings | None:
    """The granted variant that saves the most bit operations, then MACs."""
    return max((v for v in variants if is_saving(v)), key=_saved, default=None)


def _saved(variant: VariantSavings) -> tuple[float, float]:
    return variant.doublings.bit_operations or 0.0, variant.doublings.macs or 0.0


def _granted(
    savings: Savings,
    best: VariantSavings,
    by_id: dict[str, Variant],
    training: Sequence[TrainingEfficiency],
    date: float,
    deployment: DeviceProfile | None,
) -> Headline:
    chosen, trend = file_name(best.file, best.file_precision), savings.trend
    file = next(file for file in best.files if name_of(file) == chosen)
    slow = ever_slower(against_float(tuple(by_id.values())).get(best.id, ()))
    is_suited = best.latency_basis is not None or file.runtime not in slow
    assert file.paired
    return Headline(
        granted=True,
        reference=savings.reference,
        variant=best.id,
        tolerance=savings.tolerance,
        metric=savings.metric,
        images=file.paired.images,
        loss=file.accuracy_difference,
        loss_ci95=file.difference_ci95,
        file=_file(file, best, by_id[best.id]) if is_suited else None,
        inference=_inference(best, trend, date),
        training=_training(savings.reference, best.id, by_id, training, trend, date),
        life=_life(best, trend, date, deployment),
    )


def _file(file: FileSavings, best: VariantSavings, variant: Variant) -> HeadlineFile:
    basis = best.latency_basis
    assert file.top1 is not None and file.ci95
    return HeadlineFile(
        runtime=file.runtime,
        path=file.path,
        precision=basis.precision if basis else file.precision or _precision(variant),
        bytes=file.bytes,
        top1=file.top1,
        ci95=file.ci95,
        batch=basis.batch if basis else None,
        ms_per_image=basis.variant_ms / basis.batch if basis else None,
    )


def _precision(variant: Variant) -> str:
    bits = variant.inference.weight_bits
    return "fp32" if bits == 32 else f"int{bits}"


def _inference(variant: VariantSavings, trend: Trend, date: float) -> InferenceDoublings:
    saved, basis = variant.doublings, variant.latency_basis
    ends = basis.ratio_ci95 if basis else None
    return InferenceDoublings(
        macs=saved.macs,
        bit_operations=saved.bit_operations,
        months=in_months(saved.macs if variant.granted else None, trend, date),
        latency=saved.latency,
        latency_ci95=(log2(ends[0]), log2(ends[1])) if ends else None,
        latency_batch=basis.batch if basis else None,
        reference_runtime=basis.reference_runtime if basis else None,
        reference_precision=basis.reference_precision if basis else None,
    )


def _training(
    reference: str,
    variant: str,
    by_id: Mapping[str, Variant],
    pairs: Sequence[TrainingEfficiency],
    trend: Trend,
    date: float,
) -> TrainingDoublings | None:
    """t in full at the variant's own accuracy: against the baseline that learns it from labels with the least compute.

    Without such a baseline, against what was spent on the reference, which is as accurate. None where training before
    the run is not known.
    """
    own = next((pair for pair in pairs if pair.variant == variant and pair.primary), None)
    if own and (full := own.with_teacher_pretraining).macs is not None:
        t, bound = known_doublings(own)
        return TrainingDoublings(
            against=own.baseline,
            doublings=t,
            bound=bound,
            censored=own.censored,
            ci95=full.doublings_ci95,
            bracket=full.bracket,
            curves="top1",
            months=in_months(shown(t, bound), trend, date, training=True, ci95=closed(full.doublings_ci95, t, bound)),
        )
    before, after = (compute_in_full(by_id[name]) for name in (reference, variant))
    if not before or not after:
        return None
    t = log2(before / after)
    return TrainingDoublings(against=reference, doublings=t, months=in_months(t, trend, date, training=True))


def _life(
    best: VariantSavings, trend: Trend, date: float, deployment: DeviceProfile | None
) -> LifetimeDoublings | None:
    queries = deployment.queries if deployment and deployment.queries else QUERIES
    at = best.lifetime.at_queries if best.lifetime else ()
    found = next((log2(point.ratio) for point in at if point.queries == queries), None)
    if found is None:
        return None
    return LifetimeDoublings(
        queries=queries,
        doublings=found,
        months=in_months(found, trend, date),
        break_even=best.break_even_queries,
    )
