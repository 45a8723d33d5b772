"""Every figure of a report, computed again from `results.json` by other means than the package's own."""

from __future__ import annotations

import math

import pytest
from scipy import optimize, stats

from compress.results import (
    ClassChanges,
    Disagreements,
    RunRecord,
    Savings,
    TrainingEfficiency,
    Trend,
    Variant,
    VariantSavings,
)

Variants = dict[str, Variant]
Z = 1.959963984540054


def recompute(results: RunRecord) -> int:
    """Check what is derived in `results` against what it is derived from, and return the number of figures checked."""
    by_id, trend = {variant.id: variant for variant in results.variants}, results.efficiency[0].trend
    checked = sum(_accuracy(variant) + _ledger(variant) for variant in by_id.values())
    checked += sum(_latency(variant, by_id[results.efficiency[0].reference]) for variant in by_id.values())
    for entry in results.efficiency:
        for record in entry.variants:
            checked += _saving(record, entry, by_id, trend)
    for pair in results.training_efficiency:
        checked += _training(pair, by_id, trend)
    for change in results.class_changes:
        checked += _classes(change, by_id)
    return checked + _disagreements(results.disagreements, by_id)


def same(found: float | None, expected: float | None) -> int:
    """Equal to what double precision and a bisection leave."""
    assert (found is None) == (expected is None), (found, expected)
    if found is not None:
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    return 1


def _accuracy(variant: Variant) -> int:
    k, n = variant.accuracy.correct, variant.accuracy.n
    same(variant.accuracy.top1, k / n)
    assert _right(variant).count("1") == k
    interval = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    low, high = variant.accuracy.ci95
    return 1 + same(low, interval.low) + same(high, interval.high)


def _latency(variant: Variant, reference: Variant) -> int:
    theirs = {(row.runtime, row.batch): row.p50_ms for row in reference.inference.latency}
    checked = 0
    for row in variant.inference.latency:
        assert row.process_p50_ms == pytest.approx([stats.scoreatpercentile(rounds, 50) for rounds in row.rounds_ms])
        checked += same(row.p50_ms, float(stats.gmean(row.process_p50_ms)))
        base = theirs.get((row.runtime, row.batch))
        checked += same(row.ratio_to_reference, base / row.p50_ms if base else None)
    return checked


def _right(variant: Variant) -> str:
    """A character per image of the test split: 1 where the variant is right."""
    digits = "".join(f"{int(digit, 16):04b}" for digit in variant.accuracy.right or "")
    n = variant.accuracy.n
    assert len(digits) - n in range(8) and "1" not in digits[n:]
    return digits[:n]


def _discordant(one: Variant, other: Variant) -> tuple[int, int]:
    pairs = list(zip(_right(one), _right(other), strict=True))
    return pairs.count(("1", "0")), pairs.count(("0", "1"))


def _classes(change: ClassChanges, by_id: Variants) -> int:
    """The classes add up to the whole, and each has the interval of its own images."""
    checked = 0
    for row in change.classes:
        b, c, n = row.only_reference, row.only_variant, row.images
        assert row.reference_correct - row.variant_correct == b - c and b + c > 0
        checked += same(row.difference, (b - c) / n)
        low, high = -tango_upper(c, b, n), tango_upper(b, c, n)
        checked += same(row.difference_ci95[0], low) + same(row.difference_ci95[1], high)
    if not change.classes_left_out:
        sums = sum(row.only_reference for row in change.classes), sum(row.only_variant for row in change.classes)
        assert sums == _discordant(by_id[change.reference], by_id[change.variant])
    for move in change.moves:
        assert move.reference_said != move.variant_said and move.images > 0
    return checked


def _disagreements(found: Disagreements | None, by_id: Variants) -> int:
    """Who is right about an image is what the bits say; no image is shown twice."""
    if found is None:
        return 0
    teacher, student = by_id[found.teacher], by_id[found.student]
    assert sum(_discordant(teacher, student)) <= found.images <= found.of
    shown = [example.image for example in found.examples]
    assert len(set(shown)) == len(shown) == min(12, found.images)
    for example in found.examples:
        assert example.teacher.name != example.student.name
        for prediction, right in ((example.teacher, _right(teacher)), (example.student, _right(student))):
            assert (prediction.name == example.label) == (right[example.image] == "1")
            assert 0 < prediction.probability <= 1
    return len(shown)


def _ledger(variant: Variant) -> int:
    training = variant.training
    curve = [point.macs for point in training.curve]
    assert curve == sorted(curve) and (not curve or curve[-1] <= training.macs)
    return same(training.macs, sum(part.macs for part in training.parts) if training.parts else training.macs)


def _saving(record: VariantSavings, entry: Savings, by_id: Variants, trend: Trend) -> int:
    reference, variant = by_id[entry.reference], by_id[record.id]
    theirs, ours = reference.inference, variant.inference
    assert record.paired is not None and record.difference_ci95 is not None
    b, c, n = record.paired.only_reference, record.paired.only_variant, record.paired.images
    assert b - c == reference.accuracy.correct - variant.accuracy.correct
    assert (b, c) == _discordant(reference, variant)
    checked = same(record.accuracy_difference, (b - c) / n)
    low, high = -tango_upper(c, b, n), tango_upper(b, c, n)
    checked += same(record.difference_ci95[0], low) + same(record.difference_ci95[1], high)
    checked += same(record.exact_upper_bound, _share(b, n, 1 - 0.0125, 1) - _share(c, n, 0.0125, 0))
    assert record.granted == (high <= entry.tolerance and n >= 30)
    saved = record.doublings
    checked += same(saved.macs, math.log2(theirs.macs / ours.macs))
    checked += same(saved.bit_operations, math.log2(theirs.bit_operations / ours.bit_operations))
    checked += same(saved.latency, math.log2(record.latency_basis.ratio) if record.latency_basis else None)
    months = 12 * math.log(theirs.macs / ours.macs) / math.log(trend.growth) if record.granted else None
    checked += same(record.months_of_growth, months)
    return checked + _life(record, reference, variant, by_id)


def _share(k: int, n: int, level: float, more: int) -> float:
    """Clopper and Pearson's bound as a quantile of the beta distribution; `more` is 1 for the upper one."""
    if k == (n if more else 0):
        return float(more)
    return float(stats.beta.ppf(level, k + more, n - k + 1 - more))


def _life(record: VariantSavings, reference: Variant, variant: Variant, by_id: Variants) -> int:
    c_b, c_c, made = reference.inference.macs, variant.inference.macs, reference.training.macs
    line, at = [], variant
    while at.kind in ("prune", "sparsify", "quantize"):
        at = by_id[str(at.parent)]
        line.append(at.id)
    effort = variant.training.macs - (made if reference.id in line else 0)
    breaks = None if c_b <= c_c else effort / (c_b - c_c)
    checked = same(record.break_even_queries, breaks)
    life = record.lifetime
    if life is None:
        return checked
    for point in life.at_queries:
        q = point.queries * (1 - life.hit_rate)
        checked += same(point.ratio, (made + q * c_b) / (made + effort + q * c_c))
    if breaks:  # where the two lives cost the same
        assert made + breaks * c_b == pytest.approx(made + effort + breaks * c_c)
    return checked + same(life.limit, c_b / c_c)


def _training(pair: TrainingEfficiency, by_id: Variants, trend: Trend) -> int:
    baseline, variant = by_id[pair.baseline].training.curve, by_id[pair.variant].training.curve
    if not pair.chosen:
        same(pair.target_top1, baseline[-1].top1)
    reached = [[point.macs for point in curve if point.top1 >= pair.target_top1] for curve in (baseline, variant)]
    theirs, ours = (points[0] if points else None for points in reached)
    checked = same(pair.baseline_macs, theirs) + same(pair.variant_macs, ours)
    assert pair.censored == (theirs is None or ours is None)
    if ours is None:
        return checked + same(pair.ratio, None)
    most = baseline[-1].macs if theirs is None else theirs
    d = math.log2(most / ours)
    checked += same(pair.ratio, most / ours) + same(pair.doublings, d)
    gap = math.log2(trend.growth) - math.log2(trend.hardware)
    checked += same(pair.months_of_growth, 12 * d / math.log2(trend.growth))
    return checked + same(pair.months_of_gap, 12 * d / gap)


def tango_upper(b: int, c: int, n: int) -> float:
    """Upper end of Tango's interval by its definition: the restricted likelihood is maximised, not solved for."""

    def statistic(d: float) -> float:
        def unlikely(q: float) -> float:
            terms = ((c, q), (b, q + d), (n - b - c, 1 - 2 * q - d))
            return -sum(count * math.log(max(share, 1e-300)) for count, share in terms if count)

        low, high = max(0.0, -d), (1 - d) / 2
        q = optimize.minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
        if c == 0 and unlikely(low) <= unlikely(q):
            q = low
        variance = n * (2 * q + d * (1 - d))
        return (b - c - n * d) / math.sqrt(variance) if variance > 0 else math.inf

    if b == n:  # every image was lost: no difference is larger
        return 1.0
    start = (b - c) / n
    return float(optimize.brentq(lambda d: statistic(d) + Z, start + 1e-12, 1 - 1e-9, xtol=1e-13))
