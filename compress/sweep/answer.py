"""The answer of a sweep: selected on validation within budget and tolerance, then tested once in a fixed sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.efficiency.metric import METRIC_WORDS
from compress.efficiency.verdict import Decision, Estimate, decide
from compress.gate.rules import Rule, parse_metric
from compress.report import formats as f
from compress.report.savings import first_reference
from compress.report.sides import Absent, Measured, Side
from compress.sweep.job import Job
from compress.sweep.objectives import VALIDATION, measured
from compress.sweep.output import figure_text, figures_text, settings_text
from compress.sweep.records import Answer, Figures, TestedTrial
from compress.sweep.testing import Comparison, FinishedTrial, describe_round, run_tests, select_sequence

DEFAULT_COSTS = ("macs", "size")
ROUNDING = 1e-12


@dataclass(frozen=True)
class BudgetCheck:
    """A trial against every rule of the budget."""

    finished: FinishedTrial
    decisions: tuple[tuple[Rule, Measured, Decision], ...]

    @property
    def keeps(self) -> bool:
        """Whether it is shown to keep all rules."""
        return all(decision.verdict == "pass" for *_, decision in self.decisions)

    @property
    def may_keep(self) -> bool:
        """Whether it is not shown to break a rule."""
        return all(decision.verdict != "fail" for *_, decision in self.decisions)

    @property
    def excess(self) -> float:
        """Largest relative excess over a bound; infinite where a figure is unknown."""
        figures = self.finished.figures
        known = [figures.get(str(rule.metric), float("inf")) / rule.bound for rule, *_ in self.decisions if rule.bound]
        return max(known, default=float("inf")) - 1


def find_answer(job: Job, trials: Mapping[int, FinishedTrial], wait: str | None = None) -> Answer:
    """Find the trial to recommend, and note in the sweep's folder which trials were tested for it.

    With a tolerance, it is the cheapest, by the first cost among the objectives, that loses no more on validation and
    is then shown on test to lose no more. Without one, it is the most accurate on validation. Both within the budget.
    On validation it is top-1 that counts, on test the recipe's `worth.metric`.

    Args:
        job: The sweep.
        trials: Trials that are done, by number.
        wait: Why no test image is used yet; there is no answer then.
    """
    worth = job.recipe.worth
    tolerance = worth.tolerance if job.tolerance is None else job.tolerance
    reference = find_reference(trials)
    checks = [_check_budget(each, job.budget) for each in trials.values()]
    missing = wait or _missing(checks, job, reference, tolerance)
    within = [each.finished for each in checks if each.keeps and _is_accurate(each.finished, job, reference)]
    cost = find_cost(job, [each.figures for each in within])
    sequence = [] if missing else select_sequence(within, cost)
    comparison = Comparison(reference, tolerance, worth.metric, tuple(_files(job)))
    tested = run_tests(sequence, comparison)
    best = _choose(sequence, tested, job)
    return Answer(
        trial=best.trial.number if best else None,
        sentence=missing or (_sentence(best, tested, job, cost) if best else _refusal(tested)),
        command=job.command_of(best.trial) if best else None,
        tolerance=tolerance,
        metric=worth.metric,
        reference=reference.variant.id if reference else None,
        tested=tuple(tested),
        test_rounds=job.folder.count_rounds(describe_round(sequence, tested, comparison)),
    )


def find_cost(job: Job, figures: Sequence[Figures]) -> str:
    """Return the cost that trials are ordered by: the first objective, or else MACs, or size where they are unknown."""
    known = (name for name in DEFAULT_COSTS if all(name in each for each in figures))
    return next(iter(job.space.costs()), None) or next(known, DEFAULT_COSTS[-1])


def find_reference(trials: Mapping[int, FinishedTrial]) -> Side | None:
    """Return the recipe's first reference; where the parameters change it, the most accurate one on validation."""
    found = []
    for each in trials.values():
        name = first_reference(each.side.run)
        found += [Side(each.side.run, variant) for variant in each.side.run.variants if variant.id == name]
    known = [side for side in found if side.variant.validation]
    return max(known, key=lambda side: side.variant.validation.top1 if side.variant.validation else 0, default=None)


def _check_budget(finished: FinishedTrial, budget: Sequence[Rule]) -> BudgetCheck:
    decisions = []
    for rule in budget:
        found = measured(rule, finished.side.run, finished.side.variant)
        decision = decide(found, "<=", rule.bound) if isinstance(found, Estimate) else Decision("cannot tell")
        decisions.append((rule, found, decision))
    return BudgetCheck(finished, tuple(decisions))


def _is_accurate(finished: FinishedTrial, job: Job, reference: Side | None) -> bool:
    """Whether a trial loses no more than the tolerance on validation, where one was given."""
    if job.tolerance is None:
        return True
    base = reference.variant.validation if reference else None
    return base is not None and finished.figures[VALIDATION] >= base.top1 - job.tolerance - ROUNDING


def _missing(checks: Sequence[BudgetCheck], job: Job, reference: Side | None, tolerance: float) -> str | None:
    """Say what is missing for an answer: trials, a figure within the budget, or accuracy."""
    if not checks:
        return "none: no trial is done"
    keeping = [each for each in checks if each.keeps]
    rules = ", ".join(map(str, job.budget))
    if not keeping:
        unsure = [each for each in checks if each.may_keep]
        closest = min(unsure or checks, key=lambda each: each.excess)
        figures = figures_text(closest.finished.figures, [str(rule.metric) for rule in job.budget])
        if unsure:
            why = next(_why_unsure(*each) for each in closest.decisions if each[2].verdict == "cannot tell")
            return f"none: trial {closest.finished.trial.number} may keep {rules} ({figures}), but {why}"
        return f"none keeps {rules}; closest is trial {closest.finished.trial.number}: {figures}"
    if not any(_is_accurate(each.finished, job, reference) for each in keeping):
        if reference is None:
            return "none: no run has a reference with accuracy on validation; set worth.references"
        best = max(keeping, key=lambda each: each.finished.figures[VALIDATION]).finished
        assert reference.variant.validation
        lost = f.points(reference.variant.validation.top1 - best.figures[VALIDATION], None)
        return (
            f"none: trial {best.trial.number} is the most accurate{' within the budget' if rules else ''}, and on "
            f"validation it is {lost} than {reference.variant.id}; the tolerance is {100 * tolerance:g} points"
        )
    return None


def _why_unsure(rule: Rule, found: Measured, decision: Decision) -> str:
    if isinstance(found, Absent):
        return f"{rule.metric} is unknown: {found.reason}"
    assert decision.ends
    low, high = (figure_text(str(rule.metric), end) for end in decision.ends)
    return f"the 95% interval of {rule.metric} is {low} to {high}; measure.processes and measure.rounds narrow it"


def _files(job: Job) -> list[str]:
    """Return the names of the files that costs and budgets are about."""
    metrics = [parse_metric(name) for name in job.space.costs()] + [rule.metric for rule in job.budget]
    return list(dict.fromkeys(metric.of for metric in metrics if metric.of))


def _choose(sequence: Sequence[FinishedTrial], tested: Sequence[TestedTrial], job: Job) -> FinishedTrial | None:
    """Choose the cheapest trial that was granted; without a tolerance, the most accurate on validation."""
    if job.tolerance is None:
        return max(sequence, key=lambda each: each.figures[VALIDATION], default=None)
    granted = [each for each, row in zip(sequence, tested, strict=True) if row.granted]
    return granted[-1] if granted else None


def _refusal(tested: Sequence[TestedTrial]) -> str:
    first = tested[0]
    return f"none: trial {first.number}, the first to be tested, is not granted: {first.reason}"


def _sentence(best: FinishedTrial, tested: Sequence[TestedTrial], job: Job, cost: str) -> str:
    """Say which trial it is, what it costs, and how accurate it is on test."""
    row = next(each for each in tested if each.number == best.trial.number)
    names = list(dict.fromkeys((*job.space.costs(), *(str(rule.metric) for rule in job.budget), cost)))
    accuracy = (
        "not compared on test" if row.top1 is None or row.ci95 is None else f"{f.accuracy(row.top1, row.ci95)} on test"
    )
    against = f", {row.reason}{METRIC_WORDS[job.recipe.worth.metric]}" if row.top1 is not None else ""
    settings = settings_text({**best.trial.settings, "variant": best.trial.variant})
    return f"This one: trial {best.trial.number} ({settings}): {figures_text(best.figures, names)}; {accuracy}{against}"
