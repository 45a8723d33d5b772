"""Tests of trials on the test split: what they are compared by and with, and how often test images were used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from results_factory import DATE, TREND, N, accuracy, example_record, right, variant
from sweep.arithmetic import SPACE, Arithmetic, Bench

from compress.efficiency.savings import savings
from compress.pipeline.runner import Run
from compress.recipe.schema import Recipe
from compress.report.sides import Side
from compress.results import Variant
from compress.sweep.records import Trial
from compress.sweep.testing import NOT_THE_SAME, Comparison, FinishedTrial, metric_of, run_tests

PRUNED = SPACE.replace("[pruned, int8]", "[pruned]")
TOLERANT = 0.06


def finished(number: int, own: Variant) -> FinishedTrial:
    trial = Trial(number=number, settings={}, variant=own.id, overrides=(), state="done", seconds=1)
    return FinishedTrial(trial, Side(example_record(), own))


@dataclass
class AgainstItsOwnStage(Arithmetic):
    """The recipe's reference is the variant that the trials are about."""

    def __call__(self, recipe: Recipe, runs: Path, command: str, page: str) -> Run:
        run = super().__call__(recipe, runs, command, page)
        pruned = [each for each in run.record.variants if each.id == "pruned"]
        saved = (savings(pruned, "pruned", 0.01, TREND, DATE),)
        record = run.record.model_copy(update={"efficiency": saved})
        (run.folder / "results.json").write_text(record.to_json())
        return Run(run.folder, record)


def test_a_trial_with_the_id_of_the_reference_is_tested(bench: Bench) -> None:
    """Smaller networks lose 30 points on test alone; that their stage is the reference's does not grant them."""
    make = AgainstItsOwnStage(shift=lambda lr, target: -0.3 if target < 0.7 else 0.0)
    sweep = bench.sweep(PRUNED, make=make, tolerance=TOLERANT)
    first, second, *_ = sweep.answer.tested
    assert sweep.answer.reference == "pruned" and (first.granted, first.reason) == (True, "it is the reference")
    assert not second.granted and second.loss is not None and second.loss > 0.3
    assert sweep.answer.trial == first.number


def test_reference_of_another_run_with_the_same_key_is_the_reference() -> None:
    base = variant("a", accuracy=accuracy(20, 100, right(20, n=100)), stage_key="one key")
    twin, other = base.model_copy(), base.model_copy(update={"stage_key": "another"})
    record = example_record()
    data = record.data.model_copy(update={"test_labels": None})
    reference = Side(record.model_copy(update={"data": data}), base)
    rows = run_tests([finished(0, twin), finished(1, other)], Comparison(reference, 0.01))
    assert [row.granted for row in rows] == [True, False], "100 images do not show a tolerance of one point"


@pytest.mark.parametrize("name", ["top1", "balanced", "top5"])
def test_decisions_are_those_of_the_run(name: str) -> None:
    """A sequence of one, against the decision of `efficiency` in the run's own results."""
    record = example_record()
    metric = metric_of(record, name)  # type: ignore[arg-type]
    by_id = {each.id: each for each in record.variants}
    pair = [by_id["distilled"], by_id["pruned"]]
    (saved,) = savings(pair, "distilled", 0.02, TREND, DATE, None, metric.chance(), metric).variants
    comparison = Comparison(Side(record, pair[0]), 0.02, name)  # type: ignore[arg-type]
    (row,) = run_tests([finished(0, pair[1])], comparison)
    assert (row.granted, row.loss, row.loss_ci95) == (saved.granted, saved.accuracy_difference, saved.difference_ci95)


def test_metrics_differ() -> None:
    record = example_record()
    by_id = {each.id: each for each in record.variants}
    ends = [
        run_tests([finished(0, by_id["pruned"])], Comparison(Side(record, by_id["distilled"]), 0.02, name))[0].loss_ci95
        for name in ("top1", "balanced", "top5")
    ]
    assert len(set(ends)) == 3


def test_the_metric_is_that_of_the_recipe(bench: Bench) -> None:
    """Its runs have no top-5 here, so that nothing is compared by it."""
    answer = bench.sweep(PRUNED, overrides=["worth.metric=top5"]).answer
    assert answer.metric == "top5" and answer.tested[0].loss is None and not answer.tested[0].granted
    sweep = bench.sweep(PRUNED, overrides=["worth.metric=top5"])
    assert any("selected by top-1 on validation, and tested by worth.metric, top5" in each for each in sweep.remarks)


def test_reference_at_chance_grants_nothing() -> None:
    """Ten classes: 10% right is chance, and a variant with the very same answers is not granted by it."""
    base = variant("a", accuracy=accuracy(N // 10, N, right(N // 10)))
    record = example_record()
    (row,) = run_tests([finished(0, base.model_copy(update={"id": "b"}))], Comparison(Side(record, base), 0.02))
    assert not row.granted and row.top1 is None
    assert row.reason == "a itself is not shown to be better than chance, 10.0%"


def test_a_trial_that_was_selected_on_the_test_images_is_not_tested() -> None:
    """Nor is what was made from it; the next trial is."""
    record = example_record()
    reference, pruned, int8 = record.variants[2:5]
    peeked = pruned.model_copy(update={"training": pruned.training.model_copy(update={"selected_on": "test"})})
    run = record.model_copy(update={"variants": (*record.variants[:3], peeked)})
    trials = [finished(number, own) for number, own in enumerate((peeked, int8, int8))]
    made = FinishedTrial(trials[1].trial, Side(run, int8))
    rows = run_tests([trials[0], made, trials[2]], Comparison(Side(record, reference), 0.02))
    reason = "not tested: the checkpoint of pruned was selected on the test images"
    assert [(row.granted, row.top1) for row in rows[:2]] == [(False, None)] * 2
    assert [row.reason for row in rows[:2]] == [reason] * 2
    assert rows[2].granted


def test_other_test_images_are_not_compared() -> None:
    record = example_record()
    data = record.data.model_copy(update={"test_sha256": "other", "test_labels": None})
    reference = Side(record.model_copy(update={"data": data}), record.variants[2])
    (row,) = run_tests([finished(0, record.variants[3])], Comparison(reference, 0.02))
    assert (row.granted, row.top1, row.reason) == (False, None, NOT_THE_SAME)


def test_rounds_of_tests_are_counted(bench: Bench) -> None:
    rounds = [
        bench.sweep(PRUNED, trials=trials, tolerance=tolerance).answer.test_rounds
        for trials, tolerance in ((8, TOLERANT), (0, TOLERANT), (0, 0.2), (0, TOLERANT), (16, TOLERANT))
    ]
    assert rounds == [1, 1, 2, 2, 3], "the same question again is no new round"
    assert bench.sweep(PRUNED, trials=0, budget="macs<=1k").answer.test_rounds == 3, "nothing is tested without a trial"


def test_nothing_is_tested_while_a_trial_is_begun(bench: Bench) -> None:
    def kill(lr: float, target: float) -> None:
        if len(make.made) == 3:
            raise KeyboardInterrupt

    make = Arithmetic(fail=kill)
    with pytest.raises(KeyboardInterrupt):
        bench.sweep(PRUNED, trials=4, make=make)
    assert not (bench.runs / "sweeps/tiny-space/tests").exists(), "nor when the sweep is interrupted"
    answer = bench.sweep(PRUNED, trials=0).answer
    assert (answer.trial, answer.command, answer.tested, answer.test_rounds) == (None, None, (), 0)
    assert answer.sentence.startswith("none yet: trial 2 began and did not end")
    assert "rerun with --trials 3" in answer.sentence
    answer = bench.sweep(PRUNED, trials=3).answer
    assert answer.trial is not None and answer.test_rounds == 1


def test_size_is_the_cost_where_macs_are_uncounted(bench: Bench) -> None:
    @dataclass
    class Uncounted(Arithmetic):
        def __call__(self, recipe: Recipe, runs: Path, command: str, page: str) -> Run:
            run = super().__call__(recipe, runs, command, page)
            made = [
                each.model_copy(
                    update={"inference": each.inference.model_copy(update={"macs": 0, "bit_operations": 0})}
                )
                for each in run.record.variants
            ]
            record = run.record.model_copy(update={"variants": tuple(made), "efficiency": ()})
            (run.folder / "results.json").write_text(record.to_json())
            return Run(run.folder, record)

    sweep = bench.sweep(PRUNED.replace("[validation, macs]", "[validation]"), make=Uncounted(), trials=4)
    assert sweep.answer.trial is not None and "size 3.2 MB" in sweep.answer.sentence
    assert "front" in {point.dominance for point in sweep.points}
