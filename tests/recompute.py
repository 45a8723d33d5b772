"""Every figure of a report, computed again from `results.json` by other means than the package's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from recompute_quality import recompute_quality
from scipy import optimize, stats

from compress.results import (
    ClassChanges,
    Difference,
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
    hit_rate = results.deployment.profile.hit_rate if results.deployment else 0.0
    checked += sum(_timing(variant, by_id[results.efficiency[0].reference]) for variant in by_id.values())
    for entry in results.efficiency:
        for record in entry.variants:
            checked += _saving(record, entry, by_id, trend)
            checked += _life(record, by_id[entry.reference], by_id[record.id], hit_rate)
    for pair in results.training_efficiency:
        checked += _training(pair, by_id, trend)
    for change in results.class_changes:
        checked += _classes(change, by_id)
    checked += recompute_quality(results)
    return checked + _headline(results, by_id) + _disagreements(results.disagreements, by_id)


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


def _timing(variant: Variant, reference: Variant) -> int:
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
    return _bits(variant.accuracy.right, variant.accuracy.n)


def _bits(right: str | None, n: int) -> str:
    digits = "".join(f"{int(digit, 16):04b}" for digit in right or "")
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
    checked = 0
    for file in record.files:
        artifact = next((each for each in variant.artifacts if each.path == file.path), None)
        right = artifact.right if artifact else variant.accuracy.right
        checked += _difference(file, reference, right)
        if file.runtime == record.file:
            checked += _difference(record, reference, right)
        upper = file.difference_ci95[1] if file.difference_ci95 else 1
        assert file.granted == (upper <= entry.tolerance and reference.accuracy.n >= 30)
    assert not record.granted or any(file.granted_adjusted for file in record.files)
    saved = record.doublings
    checked += same(saved.macs, math.log2(theirs.macs / ours.macs))
    checked += same(saved.bit_operations, _fewer_bit_operations(record, reference, variant))
    checked += _latency(record, entry, reference, variant)
    months = 12 * math.log(theirs.macs / ours.macs) / math.log(trend.growth) if record.granted else None
    return checked + same(record.months_of_growth, months)


def _fewer_bit_operations(record: VariantSavings, reference: Variant, variant: Variant) -> float | None:
    """Of the file that a variant is judged by, the MACs in integer have 8 bits on both sides, the others 32."""

    def executed(of: Variant, path: str | None) -> float | None:
        if min(of.inference.weight_bits, of.inference.activation_bits) >= 32:
            return of.inference.bit_operations
        file = next((each for each in of.artifacts if each.path == path), None)
        if file is None:
            return None
        shares = file.macs_by_precision or {"int8": file.integer_macs_share}
        if None in shares.values():
            return None
        share = shares.get("int8") or 0.0
        return max(of.inference.bit_operations, of.inference.macs * (1024 - 960 * share))

    theirs = reference.inference.bit_operations
    evaluated = [file for file in reference.artifacts if file.top1 is not None]
    if evaluated and min(reference.inference.weight_bits, reference.inference.activation_bits) < 32:
        theirs = executed(reference, max(evaluated, key=lambda file: file.top1 or 0).path) or theirs
    path = next(file.path for file in record.files if file.runtime == record.file)
    ours = executed(variant, path)
    return ours and math.log2(theirs / ours)


def _difference(record: Difference, reference: Variant, right: str | None) -> int:
    """The paired difference of one file, from the bits."""
    if right is None:
        assert record.paired is record.accuracy_difference is None
        return 0
    assert record.paired and record.difference_ci95
    pairs = list(
        zip(_bits(reference.accuracy.right, reference.accuracy.n), _bits(right, reference.accuracy.n), strict=True)
    )
    b, c, n = pairs.count(("1", "0")), pairs.count(("0", "1")), len(pairs)
    assert (record.paired.only_reference, record.paired.only_variant, record.paired.images) == (b, c, n)
    checked = same(record.accuracy_difference, (b - c) / n)
    low, high = -tango_upper(c, b, n), tango_upper(b, c, n)
    checked += same(record.difference_ci95[0], low) + same(record.difference_ci95[1], high)
    errors = n - reference.accuracy.correct
    checked += same(record.relative_error_increase, (b - c) / errors if errors else None)
    return checked + same(record.exact_upper_bound, _share(b, n, 1 - 0.0125, 1) - _share(c, n, 0.0125, 0))


def _latency(record: VariantSavings, entry: Savings, reference: Variant, variant: Variant) -> int:
    """Best granted file against best granted file, at the largest common batch."""
    theirs = {
        file.runtime
        for file in entry.reference_files
        if file.granted_adjusted or (file.difference_ci95 and file.difference_ci95[0] <= 0)
    }
    ours = {file.runtime for file in record.files if file.granted_adjusted and record.granted}
    batches = {row.batch for row in variant.inference.latency} & {row.batch for row in reference.inference.latency}
    ratio = None
    if batches and theirs and ours:
        base, own = (
            [row.p50_ms for row in each.inference.latency if row.batch == max(batches) and row.runtime in granted]
            for each, granted in ((reference, theirs), (variant, ours))
        )
        ratio = min(base) / min(own) if base and own else None
    basis = record.latency_basis
    checked = same(basis.ratio if basis else None, ratio)
    return checked + same(record.doublings.latency, None if ratio is None else math.log2(ratio))


def _share(k: int, n: int, level: float, more: int) -> float:
    """Clopper and Pearson's bound as a quantile of the beta distribution; `more` is 1 for the upper one."""
    if k == (n if more else 0):
        return float(more)
    return float(stats.beta.ppf(level, k + more, n - k + 1 - more))


def _life(record: VariantSavings, reference: Variant, variant: Variant, hit_rate: float) -> int:
    c_b, c_v = reference.inference.macs, variant.inference.macs
    made_b, made_v = _in_full(reference), _in_full(variant)
    known = made_b is not None and made_v is not None
    breaks = max(0, made_v - made_b) / ((c_b - c_v) * (1 - hit_rate)) if known and c_b > c_v else None
    if not known and record.break_even_queries is not None:  # what is not stated is the same for both
        breaks = max(0, variant.training.macs - reference.training.macs) / ((c_b - c_v) * (1 - hit_rate))
    checked = same(record.break_even_queries, breaks)
    life = record.lifetime
    assert life is None or known
    if life is None:
        return checked
    for point in life.at_queries:
        q = point.queries * (1 - hit_rate)
        checked += same(point.ratio, (made_b + q * c_b) / (made_v + q * c_v))
    if breaks:  # where the two lives cost the same
        q = breaks * (1 - hit_rate)
        assert made_b + q * c_b == pytest.approx(made_v + q * c_v)
    return checked + same(life.limit, c_b / c_v)


def _in_full(variant: Variant) -> float | None:
    """What the variant took, with its teacher's own training and that of the weights that it starts from."""
    before = (variant.training.teacher_pretraining, variant.training.start_pretraining)
    parts = [variant.training.macs, before[0] and before[0].macs, before[1].macs if before[1] else 0]
    return None if None in parts else sum(parts)


def _headline(results: RunRecord, by_id: Variants) -> int:
    """The headline is about a granted file of a variant that is granted against the first reference."""
    first = results.headline
    if not first.granted:
        tested = next((each.variants for each in results.efficiency if each.variants), ())
        assert not any(v.granted and _cheaper(v) for v in tested)
        return 1
    entry = next(each for each in results.efficiency if each.reference == first.reference)
    record = next(each for each in entry.variants if each.id == first.variant)
    assert first.file and first.inference
    file = next(each for each in record.files if each.path == first.file.path)
    assert record.granted and file.granted and file.difference_ci95 and first.tolerance == entry.tolerance
    assert file.difference_ci95[1] <= entry.tolerance
    checked = same(first.loss, file.accuracy_difference) + same(first.inference.macs, record.doublings.macs)
    theirs, ours = _in_full(by_id[entry.reference]), _in_full(by_id[record.id])
    if first.training and first.training.ci95 is None and first.training.bound is None:
        checked += same(first.training.doublings, math.log2(theirs / ours))
    if first.life:
        point = next(at for at in record.lifetime.at_queries if at.queries == first.life.queries)  # type: ignore[union-attr]
        checked += same(first.life.doublings, math.log2(point.ratio))
    return checked


def _cheaper(record: VariantSavings) -> bool:
    return max(record.doublings.macs or 0, record.doublings.bit_operations or 0) > 0


Points = list[tuple[int, float]]
Spent = tuple[float, float | None, float]
"""MACs before the accuracy, interpolated where there are two points, and with it."""


def _training(pair: TrainingEfficiency, by_id: Variants, trend: Trend) -> int:
    lengths = [by_id[pair.baseline], *(v for v in by_id.values() if v.control and v.control.repeats == pair.baseline)]
    variant, shown = by_id[pair.variant], by_id[str(pair.variant_curve)]
    added = variant.training.macs - shown.training.macs
    parent = by_id.get(shown.parent or "")
    made_from = parent and parent.training.parts and shown.training.parts[: len(parent.training.parts)]
    floor = parent.training.macs + added if parent and made_from == parent.training.parts else 0
    curves: list[Points] = [[(p.macs, p.top1) for p in one.training.curve] for one in lengths]
    own = [(p.macs, p.top1) for p in shown.training.curve]
    if shown is not variant:  # its parent's curve, lowered to its own accuracy on validation
        assert variant.validation
        kept = max(top1 for _, top1 in own) if shown.training.selected_on == "validation" else own[-1][1]
        own = [(macs + added, top1 - (kept - variant.validation.top1)) for macs, top1 in own]
    if not pair.chosen:
        longest = max(curves, key=lambda curve: curve[-1][0])
        same(pair.target_top1, {"variant": own, "baseline": longest}[pair.target_of][-1][1])
    base, spent = _first(curves, pair.target_top1), _from_then_on(own, pair.target_top1, floor)
    checked = same(pair.baseline_macs, base[1] and round(base[1])) + same(
        pair.variant_macs, spent[1] and round(spent[1])
    )
    never = [math.isinf(base[2]), math.isinf(spent[2])]
    assert pair.censored == {(0, 0): None, (1, 0): "baseline", (0, 1): "variant", (1, 1): "both"}[never[0], never[1]]
    d = _doublings(base, spent)
    checked += same(pair.doublings, d) + same(pair.ratio, None if d is None else 2**d)
    for end, (theirs, ours) in zip(pair.bracket or (), ((base[0], spent[2]), (base[2], spent[0])), strict=True):
        assert theirs > 0
        known = ours > 0 and not math.isinf(theirs) and not math.isinf(ours)
        checked += same(end, math.log2(theirs / ours) if known else None)
    teacher = variant.training.teacher_pretraining
    found = [one.training.start_pretraining for one in (lengths[0], variant)]
    starts = [start.macs if start else 0.0 for start in found]
    whole = None if teacher is None or None in (teacher.macs, *starts) else teacher.macs + starts[1]
    for ratio, macs, before in (
        (pair.with_teacher_pretraining, whole, starts[0]),
        (pair.with_teacher_fine_tuning, teacher and teacher.fine_tuning, 0.0),
    ):
        if ratio and macs is not None:
            checked += same(ratio.doublings, _doublings(_plus(base, before), _plus(spent, macs)))
    months = None if d is None or any(never) or whole != 0 or starts[0] != 0 else 12 * d
    gap = math.log2(trend.growth) - math.log2(trend.hardware)
    checked += same(pair.months_of_growth, months and months / math.log2(trend.growth))
    return checked + same(pair.months_of_gap, months and months / gap)


def _plus(spent: Spent, macs: float) -> Spent:
    low, middle, high = spent
    return low + macs, middle and middle + macs, high + macs


def _first(curves: list[Points], top1: float) -> Spent:
    """Of the curves that reach the accuracy, the one that does with the least; else the longest."""
    found = []
    for curve in curves:
        over = [k for k, (_, reached) in enumerate(curve) if reached >= top1]
        found.append(_at(curve, over[0] if over else None, top1, 0))
    there = [one for one in found if not math.isinf(one[2])]
    return min(there, key=lambda one: one[1] or one[2]) if there else max(found)


def _from_then_on(curve: Points, top1: float, floor: float) -> Spent:
    under = [k for k, (_, reached) in enumerate(curve) if reached < top1]
    first = under[-1] + 1 if under else 0
    return _at(curve, first if first < len(curve) else None, top1, floor)


def _at(curve: Points, k: int | None, top1: float, floor: float) -> Spent:
    if k is None:
        return curve[-1][0], None, math.inf
    if k == 0:
        return floor, None, curve[0][0]
    (m0, a0), (m1, a1) = curve[k - 1], curve[k]
    logarithm = np.interp(top1, [a0, a1], [math.log(m0), math.log(m1)])
    return m0, math.exp(logarithm), m1


def _doublings(base: Spent, own: Spent) -> float | None:
    """A figure from two interpolated computes; a bound from the last point of a curve that never gets there."""
    if math.isinf(base[2]) and math.isinf(own[2]):
        return None
    if math.isinf(base[2]):
        return math.log2(base[0] / (own[1] or own[2]))
    if math.isinf(own[2]):
        return math.log2((base[1] or base[2]) / own[0])
    return math.log2(base[1] / own[1]) if base[1] and own[1] else None


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
