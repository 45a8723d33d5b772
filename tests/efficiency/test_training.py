"""Training efficiency, from records of variants."""

from __future__ import annotations

import math

import pytest
from results_factory import TREND, accuracy, training, variant

from compress.efficiency.training import training_efficiency
from compress.results import Control, StartPretraining, TeacherPretraining, TrainingEfficiency, Variant

Curve = tuple[tuple[int, float], ...]


def learner(id: str, kind: str, curve: Curve, parent: Variant | None = None, **changes: object) -> Variant:
    """A variant whose ledger starts with its parent's, if it has one."""
    macs = changes.pop("macs", max((macs for macs, _ in curve), default=0))
    before = [(part.what, part.macs) for part in parent.training.parts] if parent else []
    parts = [*before, (id, int(macs) - sum(spent for _, spent in before))]  # type: ignore[call-overload]
    control = changes.pop("control", None)
    made = training(int(macs), curve, parts, **changes)  # type: ignore[call-overload]
    return variant(id, kind, parent=parent.id if parent else None, training=made, control=control)


def matched(id: str, curve: Curve, of: str) -> Variant:
    return learner(id, "match", curve, control=Control(of=of, gain=0, gain_ci95=(0, 0), repeats="scratch"))


SCRATCH = learner("scratch", "train", ((10, 0.3), (20, 0.5)))
DISTILLED = learner("distilled", "distill", ((40, 0.4), (80, 0.7)))


def rows(*variants: Variant, targets: tuple[float, ...] = ()) -> list[TrainingEfficiency]:
    return list(training_efficiency(variants, TREND, 2024.0, targets))


def primary(*variants: Variant) -> dict[str, TrainingEfficiency]:
    return {row.variant: row for row in rows(*variants) if row.primary}


def test_accuracies_are_the_variants_the_baselines_and_those_of_the_recipe() -> None:
    found = rows(SCRATCH, DISTILLED, targets=(0.45,))
    assert [(row.target_of, row.target_top1, row.chosen, row.primary) for row in found] == [
        ("variant", 0.7, False, True),
        ("baseline", 0.5, False, False),
        ("recipe", 0.45, True, False),
    ]


def test_baseline_that_never_gets_there_gives_a_bound_without_months() -> None:
    row = primary(SCRATCH, DISTILLED)["distilled"]
    assert (row.doublings, row.ratio, row.censored) == (-2, 0.25, "baseline")
    assert (row.baseline_macs, row.baseline_between, row.variant_macs) == (None, (20, None), 80)
    assert row.bracket == (-2, None) and row.doublings_ci95 is None
    assert row.months_of_growth is None and row.months_of_gap is None


def test_controls_claim_no_saving_nor_does_what_is_quantized_from_them() -> None:
    control = Control(of="pruned", gain=0.1, gain_ci95=(0, 0.2))
    shrunk = learner("shrunk", "shrink", ((10, 0.6),), control=control)
    small = learner("small", "quantize", (), shrunk, macs=11)
    assert {row.variant for row in rows(SCRATCH, DISTILLED, shrunk, small)} == {"distilled"}


def test_a_teacher_is_no_baseline_of_its_students() -> None:
    taught = DISTILLED.model_copy(update={"parent": "scratch"})
    half = learner("half", "prune", ((90, 0.6),), taught)
    other = learner("other", "train", ((15, 0.4),))
    assert rows(SCRATCH, taught, half) == []
    assert {(row.baseline, row.variant) for row in rows(SCRATCH, other, taught, half)} == {
        ("other", "distilled"),
        ("other", "half"),
    }
    narrow = learner("narrow", "prune", ((30, 0.4),), SCRATCH)
    assert {row.baseline for row in rows(SCRATCH, narrow)} == {"scratch"}, "it continues the baseline's training"


def test_baseline_with_the_same_compute_decides() -> None:
    same = matched("longer", ((10, 0.2), (40, 0.45), (80, 0.6)), "distilled")
    row = primary(SCRATCH, DISTILLED, same)["distilled"]
    assert (row.baseline, row.baseline_curve, row.censored, row.doublings) == ("scratch", "longer", "baseline", 0)
    better = matched("longer", ((10, 0.2), (40, 0.6), (80, 0.8)), "distilled")
    row = primary(SCRATCH, DISTILLED, better)["distilled"]
    assert row.censored is None and row.baseline_macs == round(40 * math.sqrt(2))
    assert row.doublings == pytest.approx(-0.5)
    assert row.months_of_growth == pytest.approx(-0.5 * 5.9, abs=0.05)
    assert row.months_of_gap == pytest.approx(-0.5 * 7.5, abs=0.05)
    assert not any(row.variant == "longer" for row in rows(SCRATCH, DISTILLED, better)), "it is a baseline itself"


def test_longer_schedule_does_not_take_an_early_accuracy_from_the_shorter_one() -> None:
    longer = matched("longer", ((10, 0.2), (40, 0.45), (80, 0.6)), "distilled")
    row = next(row for row in rows(SCRATCH, DISTILLED, longer, targets=(0.4,)) if row.chosen)
    assert row.baseline_curve == "scratch" and row.baseline_macs == round(10 * math.sqrt(2))


def test_accuracy_of_the_baseline_is_that_of_its_longest_training() -> None:
    longer = matched("longer", ((10, 0.2), (40, 0.45), (80, 0.6)), "distilled")
    row = next(row for row in rows(SCRATCH, DISTILLED, longer) if row.target_of == "baseline")
    assert (row.target_top1, row.baseline_macs, row.censored) == (0.6, 80, None)


def test_repaired_variant_took_all_that_its_parent_took() -> None:
    pruned = learner("pruned", "prune", ((90, 0.6), (100, 0.72)), DISTILLED)
    found = {row.target_of: row for row in rows(SCRATCH, DISTILLED, pruned) if row.variant == "pruned"}
    assert found["variant"].doublings == pytest.approx(math.log2(20 / 100))
    low = found["baseline"]  # reached by the first point: between what the parent took and that point
    assert low.variant_between == (80, 90) and low.variant_macs is None and low.doublings is None
    assert low.bracket == pytest.approx((math.log2(10 / 90), math.log2(20 / 80)))
    assert low.months_of_growth is None


def test_repaired_variant_must_stay_at_the_accuracy() -> None:
    rounds = learner("pruned", "prune", ((90, 0.75), (100, 0.5), (110, 0.72)), DISTILLED)
    assert primary(SCRATCH, DISTILLED, rounds)["pruned"].variant_between == (100, 110)
    kept = learner("pruned", "prune", ((90, 0.6), (100, 0.75), (110, 0.7)), DISTILLED, selected_on="validation")
    row = primary(SCRATCH, DISTILLED, kept)["pruned"]
    assert row.target_top1 == 0.75 and row.variant_between == (90, 100)


def test_variant_quantized_without_training_has_its_parents_curve() -> None:
    pruned = learner("pruned", "prune", ((90, 0.6), (100, 0.72)), DISTILLED)
    int8 = learner("int8", "quantize", (), pruned, macs=110).model_copy(update={"validation": accuracy(610, 1000)})
    found = primary(SCRATCH, DISTILLED, pruned, int8)
    assert found["int8"].variant_curve == "pruned" and found["int8"].variant_macs == 110
    bare = learner("bare", "prune", (), DISTILLED, macs=81)  # other weights, of unknown validation accuracy
    of_baseline = learner("int8", "quantize", (), SCRATCH, macs=21)
    assert set(primary(SCRATCH, DISTILLED, bare, of_baseline)) == {"distilled"}


def test_variant_quantized_without_training_is_judged_at_its_own_accuracy() -> None:
    """Its parent is more accurate than the baseline ever gets; it is as accurate as the baseline halfway."""
    scratch = learner("scratch", "train", ((20, 0.3), (40, 0.6), (80, 0.7)))
    taught = learner("distilled", "distill", ((20, 0.4), (60, 0.75)))
    int8 = learner("int8", "quantize", (), taught, macs=64).model_copy(update={"validation": accuracy(600, 1000)})
    found = primary(scratch, taught, int8)
    assert found["distilled"].target_top1 == 0.75 and found["distilled"].censored == "baseline"
    row = found["int8"]
    assert row.target_top1 == pytest.approx(0.6) and row.variant_macs == 64 and row.censored is None
    assert row.baseline_macs == 40 and row.doublings == pytest.approx(math.log2(40 / 64))
    unmeasured = int8.model_copy(update={"validation": None})
    assert set(primary(scratch, taught, unmeasured)) == {"distilled"}


def test_variant_is_judged_by_the_baseline_that_needs_the_least() -> None:
    better = learner("better", "train", ((10, 0.3), (20, 0.8)))
    assert primary(SCRATCH, better, DISTILLED)["distilled"].baseline == "better"
    longer = learner("longer", "train", ((10, 0.3), (60, 0.6)))
    assert primary(SCRATCH, longer, DISTILLED)["distilled"].baseline == "longer", "its bound is the higher one"


def test_training_of_the_teacher_counts_as_nothing_as_fine_tuning_and_in_full() -> None:
    stated = TeacherPretraining(macs=560, fine_tuning=80, source="s")
    taught = learner("distilled", "distill", ((40, 0.4), (80, 0.7)), teacher_pretraining=stated)
    row = primary(learner("scratch", "train", ((80, 0.3), (320, 0.8))), taught)["distilled"]
    assert row.doublings is not None and row.with_teacher_fine_tuning is not None
    assert row.with_teacher_fine_tuning.macs == 80 and row.with_teacher_pretraining.macs == 560
    # 80 MACs of its own become 160, and then 640.
    assert row.with_teacher_fine_tuning.doublings == pytest.approx(row.doublings - 1)
    assert row.with_teacher_pretraining.doublings == pytest.approx(row.doublings - 3)


def test_training_of_published_weights_counts_in_full_on_both_sides() -> None:
    teacher, start = TeacherPretraining(macs=400, source="s"), StartPretraining(macs=240, source="s")
    curve = ((40, 0.4), (80, 0.7))
    taught = learner("distilled", "distill", curve, teacher_pretraining=teacher, start_pretraining=start)
    scratch = learner("scratch", "train", ((80, 0.3), (320, 0.8)))
    row = primary(scratch, taught)["distilled"]
    assert row.doublings is not None and row.with_teacher_pretraining.macs == 640
    assert row.with_teacher_pretraining.doublings == pytest.approx(row.doublings - math.log2((80 + 640) / 80))
    tuned = learner("scratch", "train", ((80, 0.3), (320, 0.8)), start_pretraining=start)
    both = primary(tuned, taught)["distilled"]
    assert both.baseline_macs is not None and both.with_teacher_pretraining.doublings == pytest.approx(
        math.log2((both.baseline_macs + 240) / (80 + 640)), abs=0.01
    )
    unknown = StartPretraining(macs=None, source=None)
    unstated = primary(scratch, learner("d", "distill", curve, teacher_pretraining=teacher, start_pretraining=unknown))
    assert unstated["d"].with_teacher_pretraining.macs is None


def test_unknown_training_of_the_teacher_is_not_taken_for_none() -> None:
    unknown = TeacherPretraining(macs=None, source=None)
    taught = learner("distilled", "distill", ((40, 0.4), (80, 0.7)), teacher_pretraining=unknown)
    unstated = primary(SCRATCH, taught)["distilled"]
    assert unstated.with_teacher_pretraining.macs is None and unstated.with_teacher_pretraining.doublings is None
    assert unstated.with_teacher_fine_tuning is None


def test_months_are_of_all_training_or_of_none() -> None:
    curve = ((40, 0.4), (80, 0.7))
    scratch = learner("scratch", "train", ((80, 0.3), (320, 0.8)))
    assert primary(scratch, DISTILLED)["distilled"].months_of_gap is not None
    for macs in (400, None):
        start = StartPretraining(macs=macs, source=None)
        row = primary(scratch, learner("distilled", "distill", curve, start_pretraining=start))["distilled"]
        assert row.doublings is not None and row.months_of_growth is None and row.months_of_gap is None


def test_the_baseline_that_needs_the_least_is_found_with_training_before_the_run() -> None:
    """Published weights take a baseline to the accuracy at once, and took a thousand times as much before."""
    taught = learner("distilled", "distill", ((40, 0.4), (80, 0.7)))
    tuned = learner("tuned", "train", ((5, 0.3), (10, 0.8)), start_pretraining=StartPretraining(macs=10**6, source="s"))
    scratch = learner("scratch", "train", ((80, 0.3), (320, 0.8)))
    assert primary(tuned, scratch, taught)["distilled"].baseline == "scratch"


def test_nothing_is_compared_without_curves_or_with_selection_on_test() -> None:
    assert rows(variant("a", "train"), variant("b", "distill")) == []
    assert rows(SCRATCH, learner("on_test", "distill", ((40, 0.4),), selected_on="test")) == []
