"""Tests of trials on the test split: in a fixed sequence against the reference, as the runs themselves grant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.efficiency.files import compare_files, deciding_file, name_of
from compress.efficiency.intervals import Grant
from compress.efficiency.metric import Metric
from compress.efficiency.savings import decide_by_file, refuse_at_chance, refuse_selected_on_test
from compress.efficiency.sequence import stop_at_refusal
from compress.report.sides import Side
from compress.results import FileSavings, RunRecord
from compress.sweep.objectives import VALIDATION
from compress.sweep.pareto import ranks, same_test
from compress.sweep.records import Figures, TestedTrial, TestRound, Trial
from compress.utils.metric_name import MetricName

NO_REFERENCE = "no run has a reference with accuracy on validation"
NOT_THE_SAME = "its test images are not those of the reference"


@dataclass(frozen=True)
class FinishedTrial:
    """A trial that is done, with its run and variant."""

    trial: Trial
    side: Side

    @property
    def figures(self) -> Figures:
        """Accuracy on validation and costs."""
        return self.trial.figures


@dataclass(frozen=True)
class Comparison:
    """How trials are tested.

    Attributes:
        reference: Variant that accuracy is compared with.
        tolerance: Loss of accuracy that counts as equal, a fraction.
        metric: Name of the accuracy, as of `worth.metric`.
        files: Names of the files that costs and budgets are about; one of them is tested if the trial has it.
    """

    reference: Side | None
    tolerance: float
    metric: MetricName = "top1"
    files: tuple[str, ...] = ()


def metric_of(run: RunRecord, name: MetricName) -> Metric:
    """Return an accuracy on the test images of a run."""
    return Metric.of(name, run.data.test_labels or "", run.data.classes, run.data.test)


def select_sequence(trials: Sequence[FinishedTrial], cost: str) -> list[FinishedTrial]:
    """Return the trials to test: not dominated in cost and accuracy on validation, the most expensive first.

    Of several with the same figures it is the first.
    """
    by_number = {each.trial.number: each for each in trials if cost in each.figures}
    fronts = ranks({number: each.figures for number, each in by_number.items()}, (VALIDATION, cost))
    front = [by_number[number] for number, rank in fronts.items() if not rank]
    distinct = {(each.figures[cost], each.figures[VALIDATION]): each for each in reversed(front)}
    return sorted(distinct.values(), key=lambda each: -each.figures[cost])


def run_tests(sequence: Sequence[FinishedTrial], comparison: Comparison) -> list[TestedTrial]:
    """Test trials against the reference until one is refused."""
    compared = {each.trial.number: _compare(each.side, comparison) for each in sequence}
    own = {f"trial {number}": decision for number, (_, decision) in compared.items()}
    decisions = stop_at_refusal(own)
    return [_tested(number, file, decisions[f"trial {number}"]) for number, (file, _) in compared.items()]


def describe_round(
    sequence: Sequence[FinishedTrial], tested: Sequence[TestedTrial], comparison: Comparison
) -> TestRound | None:
    """Describe which models were compared on test images, and how; None where none was."""
    compared = [
        f"{_model(each.side)} {row.file}" for each, row in zip(sequence, tested, strict=True) if row.loss is not None
    ]
    if not compared or comparison.reference is None:
        return None
    return TestRound(
        reference=_model(comparison.reference),
        metric=comparison.metric,
        tolerance=comparison.tolerance,
        compared=tuple(compared),
    )


def _model(side: Side) -> str:
    return side.variant.stage_key or f"{side.run.run.id}/{side.variant.id}"


def _compare(side: Side, comparison: Comparison) -> tuple[FileSavings | None, Grant]:
    """Compare the file that the costs are about with the reference, or else the file that decides for the variant."""
    reference = comparison.reference
    if reference is None:
        return None, Grant(False, NO_REFERENCE, tested=False)
    if not same_test(side, reference):
        return None, Grant(False, NOT_THE_SAME, tested=False)
    metric = metric_of(reference.run, comparison.metric)
    refused = refuse_at_chance(reference.variant, metric.chance(), metric)
    refused = refused or refuse_selected_on_test(side.variant, {each.id: each for each in side.run.variants})
    if refused:
        return None, refused
    files = compare_files(reference.variant, side.variant, comparison.tolerance, metric)
    for name in comparison.files:
        for file in files:
            if name_of(file) == name and file.top1 is not None:
                return file, Grant(file.granted, file.reason)
    file = deciding_file(files)
    return file, decide_by_file(file)


def _tested(number: int, file: FileSavings | None, decision: Grant) -> TestedTrial:
    shown = file if decision.tested else None
    return TestedTrial(
        number=number,
        file=name_of(file) if file else "none",
        top1=shown.top1 if shown else None,
        ci95=shown.ci95 if shown else None,
        loss=shown.accuracy_difference if shown else None,
        loss_ci95=shown.difference_ci95 if shown else None,
        granted=decision.granted,
        reason=decision.reason,
    )
