"""Savings of variants against a reference, at tested equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compress.efficiency.comparison import energy_basis, inference_doublings, latency_basis
from compress.efficiency.doublings import months_of_growth, ratio
from compress.efficiency.intervals import (
    EXACT_METHOD,
    PAIRED_METHOD,
    Grant,
    PairedDifference,
    exact_upper_bound,
    grant,
    paired_difference,
)
from compress.efficiency.lifetime import break_even, cached_queries, ceiling, lifetime_ratio, share_ratio
from compress.results.deployment import DeviceProfile
from compress.results.savings import (
    Lifetime,
    LifetimeRatio,
    PairedCounts,
    QueryMacs,
    Savings,
    ShareRatio,
    Trend,
    VariantSavings,
)
from compress.results.variant import Variant

LIFETIME_QUERIES = (10**6, 10**9, 10**12)


def savings(
    variants: Sequence[Variant],
    reference_id: str,
    tolerance: float,
    trend: Trend,
    paired: Mapping[str, tuple[int, int, int]],
    deployment: DeviceProfile | None = None,
) -> Savings:
    """Compute what every other variant saves against one reference.

    Doublings are arithmetic on the costs and are given for every variant, *granted or not*; whoever calls them a
    saving must read `granted` first. What would mislead without equal accuracy (`months_of_growth`, `lifetime`) is
    None where it is not granted.

    Args:
        variants: All variants, the reference among them.
        reference_id: Id of the variant that savings are counted against.
        tolerance: Loss of accuracy that counts as equal, a fraction.
        trend: Growth of training compute and of hardware.
        paired: (b, c, n) per variant id: of n common test images, b are right by the reference only, c by the variant
            only. A variant without counts is not granted.
        deployment: States how much a model is queried; without it, the lifetime is given at round numbers only.

    Returns:
        `accuracy_difference` is (b - c) / n: positive means that the variant is *less* accurate. `months_of_growth` is
        that of the doublings of MACs. `break_even_queries` is K / (c_b - c_c), where K is what making the variant took
        on top of the reference, in MACs: its training ledger, minus the reference's where it was made from it.

    Raises:
        ValueError: When no variant has the reference's id, when paired counts do not match the two accuracies, so that
            one of them was measured on other images, or when MACs do not match bit operations.
    """
    reference = next((variant for variant in variants if variant.id == reference_id), None)
    if reference is None:
        raise ValueError(f"reference {reference_id!r} is not among the variants")
    others = [variant for variant in variants if variant.id != reference_id]
    differences = {v.id: _difference(reference, v, paired[v.id]) for v in others if v.id in paired}
    grants = {v.id: _grant(differences.get(v.id), tolerance) for v in others}
    cheapest = min([reference, *(v for v in others if grants[v.id].granted)], key=cost)
    records = []
    for v in others:
        decision, effort = _name_cheapest(grants[v.id], cheapest, reference_id), _effort(v, reference, variants)
        records.append(_variant_savings(v, reference, decision, differences.get(v.id), trend, effort, deployment))
    return Savings(
        reference=reference_id,
        tolerance=tolerance,
        trend=trend,
        interval_method=PAIRED_METHOD,
        exact_method=EXACT_METHOD,
        variants=tuple(records),
    )


def _difference(reference: Variant, variant: Variant, counts: tuple[int, int, int]) -> PairedDifference:
    """Difference of the accuracies; refused where the counts show that the two saw different images."""
    own, base = variant.accuracy, reference.accuracy
    b, c, n = counts
    if not own.n == base.n == n or base.correct - own.correct != b - c:
        raise ValueError(
            f"{reference.id} ({base.correct} of {base.n} right) and {variant.id} ({own.correct} of "
            f"{own.n}) were not measured on the same {n} images, of which {b} and {c} only one of them gets right"
        )
    return paired_difference(b, c, n)


def _grant(difference: PairedDifference | None, tolerance: float) -> Grant:
    if difference is None:
        return Grant(False, "its accuracy was not compared with the reference's on the same images")
    return grant(difference, tolerance)


def _name_cheapest(decision: Grant, cheapest: Variant, reference_id: str) -> Grant:
    if decision.granted:
        return decision
    name = f"{reference_id} itself" if cheapest.id == reference_id else cheapest.id
    return Grant(False, f"{decision.reason}; the cheapest shown to be as accurate as {reference_id} is {name}")


def cost(variant: Variant) -> tuple[float, float]:
    """MACs, then bit operations, to sort by; 0 stands for not counted and sorts last."""
    return variant.inference.macs or float("inf"), variant.inference.bit_operations or float("inf")


def _variant_savings(
    variant: Variant,
    reference: Variant,
    decision: Grant,
    difference: PairedDifference | None,
    trend: Trend,
    effort: float,
    deployment: DeviceProfile | None,
) -> VariantSavings:
    base, own = reference.inference, variant.inference
    saved = inference_doublings(base, own)
    return VariantSavings(
        id=variant.id,
        granted=decision.granted,
        reason=decision.reason,
        paired=_counts(difference) if difference else None,
        accuracy_difference=difference.difference if difference else None,
        difference_ci95=(difference.low, difference.high) if difference else None,
        exact_upper_bound=_exact(difference) if difference else None,
        doublings=saved,
        latency_basis=latency_basis(base, own),
        energy_basis=energy_basis(base, own),
        lifetime=_lifetime(reference, variant, effort, deployment) if decision.granted else None,
        break_even_queries=break_even(effort, base.macs, own.macs),
        months_of_growth=months_of_growth(saved.macs, trend.growth) if decision.granted else None,
    )


def _counts(difference: PairedDifference) -> PairedCounts:
    return PairedCounts(
        only_reference=difference.only_reference, only_variant=difference.only_variant, images=difference.images
    )


def _exact(difference: PairedDifference) -> float:
    return exact_upper_bound(difference.only_reference, difference.only_variant, difference.images)


def _effort(variant: Variant, reference: Variant, variants: Sequence[Variant]) -> float:
    """K: MACs that making the variant took on top of the reference."""
    spent, by_id = variant.training.macs, {each.id: each for each in variants}
    ancestor: Variant | None = variant
    while ancestor and (parent := by_id.get(str(ancestor.parent))) and _includes(ancestor, parent):
        if parent.id == reference.id:
            return float(spent - reference.training.macs)
        ancestor = parent
    return float(spent)


def _includes(variant: Variant, parent: Variant) -> bool:
    """Whether the training ledger of a variant starts with its parent's: it was made from the parent's weights."""
    parts = parent.training.parts
    return bool(parts) and variant.training.parts[: len(parts)] == parts


def _lifetime(reference: Variant, variant: Variant, effort: float, deployment: DeviceProfile | None) -> Lifetime:
    """R(Q) in MACs at several Q, with its limit."""
    made, c_b, c_c = reference.training.macs, reference.inference.macs, variant.inference.macs
    hit_rate = deployment.hit_rate if deployment else 0.0
    own = [deployment.queries] if deployment and deployment.queries else []
    limit, share = ratio(c_b, c_c), deployment.inference_share if deployment else None
    return Lifetime(
        unit="macs",
        at_queries=tuple(
            LifetimeRatio(queries=q, ratio=lifetime_ratio(cached_queries(q, hit_rate), c_b, c_c, effort, made))
            for q in sorted({*LIFETIME_QUERIES, *own})
        ),
        query_macs=QueryMacs(reference=c_b, variant=c_c),
        limit=limit,
        training=made,
        effort=effort,
        hit_rate=hit_rate,
        at_inference_share=ShareRatio(share=share, ratio=share_ratio(share, limit), ceiling=ceiling(share))
        if share and limit
        else None,
    )
