"""Savings of variants against a reference, at tested equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compress.efficiency.comparison import energy_basis, inference_doublings, latency_basis
from compress.efficiency.compute import compute_in_full, extra_compute
from compress.efficiency.doublings import doublings, ratio
from compress.efficiency.files import (
    TOP1,
    base_file,
    compare_files,
    counts_for_reference,
    deciding_file,
    executed_bit_operations,
    name_of,
)
from compress.efficiency.intervals import EXACT_METHOD, PAIRED_METHOD, Grant
from compress.efficiency.lifetime import (
    break_even,
    cached_queries,
    ceiling,
    lifetime_ratio,
    share_effort,
    share_ratio,
)
from compress.efficiency.metric import Metric
from compress.efficiency.months import in_months
from compress.efficiency.per_class import BALANCED_METHOD
from compress.efficiency.sequence import cost, in_sequence, is_cheaper
from compress.efficiency.slower import AgainstFloat, against_float, ever_slower, slow_settings
from compress.results.deployment import DeviceProfile
from compress.results.savings import (
    Difference,
    FileSavings,
    Lifetime,
    LifetimeRatio,
    QueryMacs,
    Savings,
    ShareRatio,
    Trend,
    VariantSavings,
)
from compress.results.variant import Variant

LIFETIME_QUERIES = (10**6, 10**9, 10**12)
Files = tuple[FileSavings, ...]


def savings(
    variants: Sequence[Variant],
    reference_id: str,
    tolerance: float,
    trend: Trend,
    date: float,
    deployment: DeviceProfile | None = None,
    chance: float | None = None,
    metric: Metric = TOP1,
) -> Savings:
    """Compute what every other variant saves against one reference.

    Doublings of MACs and bit operations are arithmetic on the costs and are given for every variant, *granted or not*;
    whoever calls them a saving must read `granted` first. Bit operations are those of the file that the variant is
    judged by, and None where it is not known what that executes in integer. What would mislead without equal accuracy
    (doublings of latency and energy, `months_of_growth`, `lifetime`) is None where it is not granted.

    Args:
        variants: All variants, the reference among them.
        reference_id: Id of the variant that savings are counted against.
        tolerance: Loss of accuracy that counts as equal, a fraction.
        trend: Growth of training compute and of hardware; beyond its data it gives no months.
        date: Year of the run, with a fraction.
        deployment: States how much a model is queried; without it, the lifetime is given at round numbers only.
        chance: Accuracy without looking at the images. A reference that is not shown to be above it grants nothing.
        metric: The accuracy that has to be equal.

    Returns:
        `accuracy_difference` is (b - c) / n: positive means that the variant is *less* accurate. `months_of_growth` is
        that of the doublings of MACs.

    Raises:
        ValueError: When no variant has the reference's id, when a variant was evaluated on other images, or when MACs
            do not match bit operations.
    """
    reference = next((variant for variant in variants if variant.id == reference_id), None)
    if reference is None:
        raise ValueError(f"reference {reference_id!r} is not among the variants")
    others = [variant for variant in variants if variant.id != reference_id]
    own_files = compare_files(reference, reference, tolerance, metric)
    files = {variant.id: compare_files(reference, variant, tolerance, metric) for variant in others}
    grants = _grants(reference, others, files, chance, metric)
    settings = own_files, trend, date, deployment
    timed = against_float(variants)
    by_id = {variant.id: variant for variant in variants}
    extra = {variant.id: extra_compute(variant, reference, by_id) for variant in others}
    records = [
        _variant_savings(v, reference, grants[v.id], files[v.id], timed.get(v.id, ()), extra[v.id], *settings)
        for v in others
    ]
    return Savings(
        reference=reference_id,
        tolerance=tolerance,
        trend=trend,
        metric=metric.name,
        interval_method=BALANCED_METHOD if metric.name == "balanced" else PAIRED_METHOD,
        exact_method=EXACT_METHOD,
        reference_files=own_files,
        variants=tuple(records),
    )


def _grants(
    reference: Variant, others: Sequence[Variant], files: Mapping[str, Files], chance: float | None, metric: Metric
) -> dict[str, Grant]:
    """Decide on every variant: by its files, by the sequence of tests, and by the reference's own worth."""
    if refused := refuse_at_chance(reference, chance, metric):
        return {variant.id: refused for variant in others}
    by_id = {variant.id: variant for variant in (reference, *others)}
    own = {
        variant.id: refuse_selected_on_test(variant, by_id) or decide_by_file(deciding_file(files[variant.id]))
        for variant in others
    }
    decisions = in_sequence(reference, others, own)
    granted = [variant for variant in others if decisions[variant.id].granted]
    cheapest = min([reference, *granted], key=cost)
    return {name: _name_cheapest(each, cheapest, reference.id) for name, each in decisions.items()}


def refuse_at_chance(reference: Variant, chance: float | None, metric: Metric) -> Grant | None:
    """Return the refusal of everything where the reference is not shown to be better than chance; else None."""
    ends = metric.interval(reference.accuracy.ci95, reference.quality)
    if chance is None or (ends is not None and ends[0] > chance):
        return None
    reason = f"{reference.id} itself is not shown to be better than chance, {100 * chance:.1f}%"
    return Grant(False, reason, tested=False)


def refuse_selected_on_test(variant: Variant, by_id: Mapping[str, Variant]) -> Grant | None:
    """Return the refusal of a variant that was selected on the test images, or made from one that was; else None."""
    rest, origin = dict(by_id), variant
    while origin.training.selected_on != "test":
        rest.pop(origin.id, None)
        if (parent := rest.get(origin.parent or "")) is None:
            return None
        origin = parent
    return Grant(False, f"not tested: the checkpoint of {origin.id} was selected on the test images", tested=False)


def decide_by_file(file: FileSavings) -> Grant:
    """Decide on a variant by the one of its files that decides."""
    if file.granted and not file.granted_adjusted:
        return Grant(False, f"{file.reason}, but not if its files count as several tests")
    return Grant(file.granted_adjusted, file.reason)


def _name_cheapest(decision: Grant, cheapest: Variant, reference_id: str) -> Grant:
    if decision.granted:
        return decision
    name = f"{reference_id} itself" if cheapest.id == reference_id else cheapest.id
    return replace(
        decision, reason=f"{decision.reason}; the cheapest shown to be as accurate as {reference_id} is {name}"
    )


def _variant_savings(
    variant: Variant,
    reference: Variant,
    decision: Grant,
    files: Files,
    timed: Sequence[AgainstFloat],
    extra: float | None,
    reference_files: Files,
    trend: Trend,
    date: float,
    deployment: DeviceProfile | None,
) -> VariantSavings:
    base, own = reference.inference, variant.inference
    theirs = tuple(name_of(file) for file in reference_files if counts_for_reference(file))
    ours = tuple(name_of(file) for file in files if file.granted_adjusted) if decision.granted else ()
    latency = latency_basis(base.latency, own.latency, theirs, ours, slow_settings(timed))
    energy = energy_basis(base.energy_j.rows, own.energy_j.rows, theirs, ours)
    fastest = next((each for each in files if latency and name_of(each) == name_of(latency)), None)
    unsuited = ever_slower(timed)
    others = [each for each in files if each.granted_adjusted and each.runtime not in unsuited]
    file = fastest or next(iter(others), None) or deciding_file(files)
    saved = inference_doublings(base, own, latency, energy)
    saved = saved.model_copy(update={"bit_operations": _bit_operations(reference, variant, file)})
    return VariantSavings(
        id=variant.id,
        file=file.runtime,
        file_precision=file.precision,
        tested=decision.tested,
        granted=decision.granted,
        reason=file.reason if decision.granted else decision.reason,
        **{name: getattr(file, name) for name in Difference.model_fields},
        files=files,
        doublings=saved,
        latency_basis=latency,
        energy_basis=energy,
        lifetime=_lifetime(reference, variant, deployment) if decision.granted else None,
        break_even_queries=break_even(
            0.0,
            None if extra is None else max(0.0, extra),
            base.macs or None,
            own.macs or None,
            _hit_rate(deployment),
        ),
        months_of_growth=in_months(saved.macs, trend, date).months_of_growth if decision.granted else None,
    )


def _bit_operations(reference: Variant, variant: Variant, file: FileSavings) -> float | None:
    """Return the doublings of bit operations of a file; what is unknown of the reference's counts as that network's.

    None of a gain that only what is executed shows: the variant is not in the sequence of tests, which goes by MACs and
    bit widths, and each of any number of such variants would be a test of its own.
    """
    theirs = executed_bit_operations(reference, base_file(reference).path) or reference.inference.bit_operations
    found = doublings(ratio(theirs, executed_bit_operations(variant, file.path)))
    return None if found is not None and found > 0 and not is_cheaper(variant, reference) else found


def _hit_rate(deployment: DeviceProfile | None) -> float:
    return deployment.hit_rate if deployment else 0.0


def _lifetime(reference: Variant, variant: Variant, deployment: DeviceProfile | None) -> Lifetime | None:
    """R(Q) in MACs at several Q, with its limit; None where a cost is unknown."""
    made, spent = compute_in_full(reference), compute_in_full(variant)
    c_b, c_v, hit_rate = reference.inference.macs, variant.inference.macs, _hit_rate(deployment)
    if made is None or spent is None or not c_b or not c_v:
        return None
    own = [deployment.queries] if deployment and deployment.queries else []
    return Lifetime(
        unit="macs",
        at_queries=tuple(
            LifetimeRatio(queries=q, ratio=lifetime_ratio(cached_queries(q, hit_rate), c_b, c_v, made, spent))
            for q in sorted({*LIFETIME_QUERIES, *own})
        ),
        query_macs=QueryMacs(reference=c_b, variant=c_v),
        limit=ratio(c_b, c_v),
        reference_training=made,
        variant_training=spent,
        hit_rate=hit_rate,
        at_inference_share=_at_share(deployment, ratio(c_b, c_v), made, spent),
    )


def _at_share(deployment: DeviceProfile | None, limit: float | None, made_b: float, made_v: float) -> ShareRatio | None:
    """R at a share of inference; None where the reference's training, of which the rest is the share, is not known."""
    share = deployment.inference_share if deployment else None
    if share is None or limit is None or (k := share_effort(share, made_b, made_v)) is None:
        return None
    return ShareRatio(share=share, effort=k, ratio=share_ratio(share, limit, k), ceiling=ceiling(share))
