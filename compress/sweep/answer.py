"""The answer of a sweep: selected on validation within budget and tolerance, then tested once in a fixed sequence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compress.efficiency.files import compare_files, deciding_file, name_of
from compress.efficiency.intervals import Grant
from compress.efficiency.sequence import stop_at_refusal
from compress.efficiency.verdict import Decision, Estimate, decide
from compress.gate.rules import Rule, parse_metric
from compress.gate.sides import Absent, Measured, Side
from compress.report import formats as f
from compress.report.savings import first_reference
from compress.results import FileSavings
from compress.sweep.job import Job
from compress.sweep.objectives import VALIDATION, measured
from compress.sweep.output import figure_text, figures_text, settings_text
from compress.sweep.pareto import ranks, same_test
from compress.sweep.records import Answer, Figures, TestedTrial, Trial

DEFAULT_COST = "macs"
ROUNDING = 1e-12
NOT_THE_SAME = "its test images are not those of the reference"


@dataclass(frozen=True)
class Ended:
    """A trial that is done, with its run and variant."""

    trial: Trial
    side: Side

    @property
    def figures(self) -> Figures:
        """Accuracy on validation and costs."""
        return self.trial.figures


@dataclass(frozen=True)
class _Held:
    """A trial against every rule of the budget."""

    ended: Ended
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
        figures = self.ended.figures
        known = [figures.get(str(rule.metric), float("inf")) / rule.bound for rule, *_ in self.decisions if rule.bound]
        return max(known, default=float("inf")) - 1


def find_answer(job: Job, trials: Mapping[int, Ended]) -> Answer:
    """Find the trial to recommend.

    With a tolerance, it is the cheapest, by the first cost among the objectives, that loses no more on validation and
    is then shown on test to lose no more. Without one, it is the most accurate on validation. Both within the budget.

    Args:
        job: The sweep.
        trials: Trials that are done, by number.
    """
    tolerance = job.recipe.worth.tolerance if job.tolerance is None else job.tolerance
    reference = find_reference(trials)
    held = [_hold(each, job.budget) for each in trials.values()]
    missing = _missing(held, job, reference, tolerance)
    within = [each.ended for each in held if each.keeps and _is_accurate(each.ended, job, reference)]
    cost = next(iter(job.space.costs()), DEFAULT_COST)
    sequence = _sequence(within, cost)
    tested = _test(sequence, reference, tolerance, _files(job))
    best = None if missing else _choose(sequence, tested, job)
    if missing or best is None:
        unshown = (
            f"none: trial {tested[0].number} is the most accurate of those, and {tested[0].reason}" if tested else ""
        )
        sentence, command = missing or unshown, None
    else:
        row = next(each for each in tested if each.number == best.trial.number)
        sentence, command = _sentence(best, row, job, cost), job.command_of(best.trial)
    return Answer(
        trial=best.trial.number if best else None,
        sentence=sentence,
        command=command,
        tolerance=tolerance,
        reference=reference.variant.id if reference else None,
        tested=tuple(tested),
    )


def find_reference(trials: Mapping[int, Ended]) -> Side | None:
    """Return the recipe's first reference; where the parameters change it, the most accurate one on validation."""
    found = []
    for each in trials.values():
        name = first_reference(each.side.run)
        found += [Side(each.side.run, variant) for variant in each.side.run.variants if variant.id == name]
    known = [side for side in found if side.variant.validation]
    return max(known, key=lambda side: side.variant.validation.top1 if side.variant.validation else 0, default=None)


def _hold(ended: Ended, budget: Sequence[Rule]) -> _Held:
    decisions = []
    for rule in budget:
        found = measured(rule, ended.side.run, ended.side.variant)
        decision = decide(found, "<=", rule.bound) if isinstance(found, Estimate) else Decision("cannot tell")
        decisions.append((rule, found, decision))
    return _Held(ended, tuple(decisions))


def _is_accurate(ended: Ended, job: Job, reference: Side | None) -> bool:
    """Whether a trial loses no more than the tolerance on validation, where one was given."""
    if job.tolerance is None:
        return True
    base = reference.variant.validation if reference else None
    return base is not None and ended.figures[VALIDATION] >= base.top1 - job.tolerance - ROUNDING


def _missing(held: Sequence[_Held], job: Job, reference: Side | None, tolerance: float) -> str | None:
    """Say what is missing for an answer: trials, a figure within the budget, or accuracy."""
    if not held:
        return "none: no trial is done"
    keeping = [each for each in held if each.keeps]
    rules = ", ".join(map(str, job.budget))
    if not keeping:
        unsure = [each for each in held if each.may_keep]
        closest = min(unsure or held, key=lambda each: each.excess)
        figures = figures_text(closest.ended.figures, [str(rule.metric) for rule in job.budget])
        if unsure:
            why = next(_why_unsure(*each) for each in closest.decisions if each[2].verdict == "cannot tell")
            return f"none: trial {closest.ended.trial.number} may keep {rules} ({figures}), but {why}"
        return f"none keeps {rules}; closest is trial {closest.ended.trial.number}: {figures}"
    if not any(_is_accurate(each.ended, job, reference) for each in keeping):
        if reference is None:
            return "none: no run has a reference with accuracy on validation; set worth.references"
        best = max(keeping, key=lambda each: each.ended.figures[VALIDATION]).ended
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


def _sequence(trials: Sequence[Ended], cost: str) -> list[Ended]:
    """Return the trials that are not dominated in cost and accuracy on validation, the dearest first; one per cost."""
    by_number = {each.trial.number: each for each in trials if cost in each.figures}
    fronts = ranks({number: each.figures for number, each in by_number.items()}, (VALIDATION, cost))
    front = [by_number[number] for number, rank in fronts.items() if not rank]
    distinct = {(each.figures[cost], each.figures[VALIDATION]): each for each in reversed(front)}
    return sorted(distinct.values(), key=lambda each: -each.figures[cost])


def _files(job: Job) -> list[str]:
    """Return the names of the files that costs and budgets are about."""
    metrics = [parse_metric(name) for name in job.space.costs()] + [rule.metric for rule in job.budget]
    return list(dict.fromkeys(metric.of for metric in metrics if metric.of))


def _test(
    sequence: Sequence[Ended], reference: Side | None, tolerance: float, names: Sequence[str]
) -> list[TestedTrial]:
    """Test trials against the reference until one is refused."""
    compared = {each.trial.number: _compare(each.side, reference, tolerance, names) for each in sequence}
    own = {f"trial {number}": grant for number, (_, grant) in compared.items()}
    decisions = stop_at_refusal(own)
    return [_tested(number, file, decisions[f"trial {number}"]) for number, (file, _) in compared.items()]


def _compare(
    side: Side, reference: Side | None, tolerance: float, names: Sequence[str]
) -> tuple[FileSavings | None, Grant]:
    """Compare the file that the costs are about with the reference, or else the file that decides for the variant."""
    if reference is None or not same_test(side, reference):
        return None, Grant(False, NOT_THE_SAME)
    files = compare_files(reference.variant, side.variant, tolerance)
    for name in names:
        for file in files:
            if name_of(file) == name and file.top1 is not None:
                return file, Grant(file.granted, file.reason)
    file = deciding_file(files)
    return file, Grant(file.granted_adjusted, file.reason)


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


def _choose(sequence: Sequence[Ended], tested: Sequence[TestedTrial], job: Job) -> Ended | None:
    """Choose the cheapest trial that was granted; without a tolerance, the most accurate on validation."""
    if job.tolerance is None:
        return max(sequence, key=lambda each: each.figures[VALIDATION], default=None)
    granted = [each for each, row in zip(sequence, tested, strict=True) if row.granted]
    return granted[-1] if granted else None


def _sentence(best: Ended, row: TestedTrial, job: Job, cost: str) -> str:
    """Say which trial it is, what it costs, and how accurate it is on test."""
    names = list(dict.fromkeys((*job.space.costs(), *(str(rule.metric) for rule in job.budget), cost)))
    accuracy = (
        "not compared on test" if row.top1 is None or row.ci95 is None else f"{f.accuracy(row.top1, row.ci95)} on test"
    )
    against = f", {row.reason}" if row.top1 is not None else ""
    settings = settings_text({**best.trial.settings, "variant": best.trial.variant})
    return f"This one: trial {best.trial.number} ({settings}): {figures_text(best.figures, names)}; {accuracy}{against}"
