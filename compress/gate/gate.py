"""Check a run against a baseline, by rules on every variant that both have."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from compress.efficiency.verdict import EXIT_STATUS, Decision, Estimate, decide, overall
from compress.gate.figures import Figures, find_figures, metrics_of
from compress.gate.records import Check, Gate, GatedRun
from compress.gate.rules import DEFAULTS, Metric, Rule, parse_rules, without_overridden
from compress.report.sides import Absent, Sides, pair
from compress.results import RunRecord
from compress.results.read import RESULTS, read_results, read_run
from compress.utils.checksums import RUN_AGAIN, check_run, require_unchanged
from compress.utils.errors import SeveralErrors, UsageError
from compress.utils.messages import did_you_mean, one_line, truncate_list


class _Question(NamedTuple):
    """A rule on one metric of one variant, with the figures of both runs."""

    variant: str
    rule: Rule
    metric: Metric
    figures: Figures


def gate(run: Path, against: Path, rules: Sequence[str] = (), variants: Sequence[str] = ()) -> Gate:
    """Check a run against a baseline.

    Args:
        run: Folder of a run, or a `results.json`.
        against: Folder of the baseline, or its `results.json`.
        rules: Rules as they are written; `DEFAULTS` if there are none.
        variants: Ids of the variants to check; all that both runs have if there are none.

    Raises:
        UsageError: a path is no run, both are the same, or a rule or variant is wrong; all of those at once.
        CompressError: the checksums of a run are themselves corrupt.
    """
    if run.resolve() == against.resolve():
        raise UsageError(f"{run} is given twice; gate it against another run")
    parsed, problems = parse_rules(list(dict.fromkeys(rules)) or DEFAULTS)
    (after, remarks), (before, of_baseline) = _read(run), _read(against)
    if after == before:  # a copy, or a folder and the file in it
        raise UsageError(f"{run} and {against} are the same run; gate it against another one")
    names, missing = _variants(before, after, variants)
    problems += missing
    pairs = [sides for name in names if (sides := pair(before, after, name))]
    found = _questions(parsed, pairs)
    problems += _unmatched(parsed, pairs) if rules else []
    if problems:
        raise SeveralErrors(problems)
    found += _not_made(parsed, before, after, variants)
    if not found:
        raise UsageError(f"{run} and {against} have no variant in common; compare runs of the same recipe")
    tests = sum(isinstance(each.figures.measured, Estimate) and each.figures.measured.is_sampled for each in found)
    checks = tuple(_check(question, max(1, tests)) for question in found)
    verdict = overall(check.verdict for check in checks)
    return Gate(
        verdict=verdict,
        exit_status=EXIT_STATUS[verdict],
        run=_about(after, run),
        baseline=_about(before, against),
        tests=tests,
        checks=checks,
        remarks=(*remarks, *of_baseline, *_remarks(before, after, variants)),
    )


def _read(path: Path) -> tuple[RunRecord, list[str]]:
    """Read a run or a file of results, with what is wrong with its other files."""
    if not path.is_file():
        return read_run(path), check_run(path)
    if path.name == RESULTS:
        require_unchanged(path, RUN_AGAIN)
    try:
        return read_results(path), []
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error


def _about(run: RunRecord, path: Path) -> GatedRun:
    return GatedRun(id=run.run.id, path=str(path), recipe=run.recipe.name, started=run.run.started)


def _ids(run: RunRecord) -> list[str]:
    return [variant.id for variant in run.variants]


def _failures(run: RunRecord) -> dict[str, str]:
    """The stages that the run could not make, with the reason."""
    return {failure.stage: failure.reason for failure in run.failed or () if failure.runtime is None}


def _variants(before: RunRecord, after: RunRecord, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Select the variants to check, and describe those that were asked for and are not in both runs."""
    both = [name for name in _ids(after) if name in _ids(before)]
    problems = []
    for name in dict.fromkeys(wanted):
        absent = [label for label, run in (("the run", after), ("the baseline", before)) if name not in _ids(run)]
        if absent and name not in _failures(after):
            of = " and ".join(absent)
            problems.append(
                f"--variant {name}: not in {of}{did_you_mean(name, both) or ';'} both have {truncate_list(both)}"
            )
    return [name for name in both if not wanted or name in wanted], problems


def _questions(rules: Sequence[Rule], pairs: Sequence[Sides]) -> list[_Question]:
    """Apply every rule to every variant.

    A variant without the metric in both runs is left out: an INT8 variant has no latency in PyTorch.
    """
    return [
        _Question(sides.after.variant.id, rule, metric, find_figures(rule, metric, sides))
        for sides in pairs
        for rule in rules
        for metric in without_overridden(rule, rules, _metrics(sides))
    ]


def _not_made(
    rules: Sequence[Rule], before: RunRecord, after: RunRecord, variants: Sequence[str]
) -> Iterator[_Question]:
    """Apply every rule to the variants, of the baseline or asked for, that the run could not make.

    Nothing is known of them.
    """
    failures = _failures(after)
    for name in dict.fromkeys((*_ids(before), *variants)):
        if name not in _ids(after) and name in failures and (not variants or name in variants):
            reason = Absent(f"the run could not make it: {failures[name]}")
            yield from (_Question(name, rule, rule.metric, Figures(None, None, reason)) for rule in rules)


def _unmatched(rules: Sequence[Rule], pairs: Sequence[Sides]) -> Iterator[str]:
    """Describe the rules on metrics that no variant has in either run."""
    known = dict.fromkeys(metric for sides in pairs for metric in _metrics(sides))
    for rule in rules:
        if known and not any(rule.metric.covers(metric) for metric in known):
            same = [str(metric) for metric in known if metric.family == rule.metric.family and metric.of]
            close = did_you_mean(str(rule.metric), same) or ";"
            yield f"rule '{one_line(str(rule))}': no variant has this metric{close} there are {truncate_list(same)}"


def _metrics(sides: Sides) -> Iterable[Metric]:
    """The metrics that a variant has in one of the runs or both."""
    found = (metrics_of(side.variant, side.run.data.classes) for side in (sides.after, sides.before))
    return dict.fromkeys(itertools.chain.from_iterable(found))


def _check(question: _Question, tests: int) -> Check:
    rule, measured = question.rule, question.figures.measured
    if isinstance(measured, Estimate):
        decision = decide(measured, rule.comparison, rule.bound, tests)
        return _record(question, decision, measured.basis, measured)
    return _record(question, Decision("cannot tell"), measured.reason)


def _record(question: _Question, decision: Decision, compared: str, measured: Estimate | None = None) -> Check:
    rule = question.rule
    return Check(
        variant=question.variant,
        rule=f"{question.metric}{rule.comparison}{rule.written}",
        metric=str(question.metric),
        basis=rule.basis,
        unit=question.metric.unit.name,
        comparison=rule.comparison,
        bound=rule.bound,
        baseline=question.figures.baseline,
        value=question.figures.value,
        measured=measured.value if measured else None,
        ci95=decision.ends,
        images=measured.images if measured else None,
        images_needed=decision.images_needed,
        compared=compared,
        verdict=decision.verdict,
    )


def _remarks(before: RunRecord, after: RunRecord, variants: Sequence[str]) -> Iterator[str]:
    """State which variants are of one run only or of none, and whether the recipes differ by name."""
    if before.recipe.name != after.recipe.name:
        yield f"the run is of recipe {after.recipe.name}, the baseline of {before.recipe.name}"
    if variants:
        return
    failures = _failures(after)
    for own, other, where in ((before, after, "the baseline"), (after, before, "the run")):
        for name in _ids(own):
            if name not in _ids(other) and name not in failures:
                yield f"{name} is in {where} only: not checked"
    for failure in after.failed or ():
        if failure.runtime:
            yield f"{failure.stage} failed in {failure.runtime}: {failure.reason}"
        elif failure.stage not in _ids(before):  # a new variant
            yield f"the run could not make {failure.stage}: {failure.reason}"
