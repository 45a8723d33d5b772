"""Latency of a variant in a runtime: the run's, or its change from the baseline's."""

from __future__ import annotations

from dataclasses import replace

from compress.deployment.engines import engine_version
from compress.efficiency.files import name_of
from compress.efficiency.timing import Ratio, Rounds, median_interval, slowdown
from compress.efficiency.verdict import Estimate
from compress.gate.rules import Metric, Rule
from compress.gate.sides import Absent, Measured, Sides, pair
from compress.report.savings import first_reference
from compress.results import LatencyRow, Variant

NO_ROUNDS = "timed without storing the rounds, so that there is no interval; run it again with this version"
ONE_PROCESS = (
    "timed in one process, which does not show how two starts of the same file differ; set measure.processes to 3"
)


def latency_row(variant: Variant, metric: Metric) -> LatencyRow | None:
    """Find the row of a file and a batch size; timings that are none, of a damaged file, count as not measured."""
    wanted = (metric.of, metric.batch)
    found = (row for row in variant.inference.latency if (name_of(row), str(row.batch)) == wanted)
    return next((row for row in found if all(rounds and min(rounds) > 0 for rounds in row.rounds_ms)), None)


def latency_figure(rule: Rule, metric: Metric, sides: Sides) -> Measured:
    """Estimate the run's median in ms, or its relative change if both runs were timed on the same kind of machine."""
    old, new = (latency_row(side.variant, metric) for side in sides)
    if new is None:
        return Absent("the run has not timed it")
    if rule.basis == "figure":
        if reason := _too_few_processes(new):
            return Absent(reason)
        return _estimate(median_interval(new.rounds_ms), f"{len(new.rounds_ms)} processes")
    if old is None:
        return Absent("the baseline has not timed it")
    if reason := _incomparable(sides, old, new):
        return Absent(reason)
    if new.rounds_ms and old.rounds_ms == new.rounds_ms and sides.same_key:
        return Estimate(0.0, "the same measurement")
    if reason := _too_few_processes(old, new):
        return Absent(reason)
    return _change(metric, sides, old, new)


def _too_few_processes(*rows: LatencyRow) -> str | None:
    """State why rows have no interval over processes."""
    fewest = min(len(row.rounds_ms) for row in rows)
    return None if fewest >= 2 else ONE_PROCESS if fewest else NO_ROUNDS


def _incomparable(sides: Sides, old: LatencyRow, new: LatencyRow) -> str | None:
    """State why two latencies cannot be compared: another machine, version of the runtime, or number of threads."""
    before, after = (side.run.environment for side in sides)
    if before.machine != after.machine:
        return f"timed on another machine: {after.machine}; the baseline's is {before.machine}"
    versions = [engine_version(environment, new.runtime) for environment in (after, before)]
    if versions[0] != versions[1]:
        return f"timed with another version of {new.runtime}: {versions[0]}, {versions[1]} in the baseline"
    if old.threads != new.threads:
        return f"timed with {new.threads} threads, {old.threads} in the baseline"
    return None


def _change(metric: Metric, sides: Sides, old: LatencyRow, new: LatencyRow) -> Measured:
    """Compare medians, relative to a network that is the same in both runs where there is one.

    Phases of the machine, or other machines of the same kind, affect both alike.
    """
    processes = f"{len(old.rounds_ms)} and {len(new.rounds_ms)} processes"
    anchor = _anchor(sides)
    if anchor and (beside := _rounds_beside(anchor, metric, old, new)):
        found = slowdown(old.rounds_ms, new.rounds_ms, *beside)
        return _estimate(_relative(found), f"{processes}, relative to {anchor.after.variant.id}")
    return _estimate(_relative(slowdown(old.rounds_ms, new.rounds_ms)), f"{processes}, at different times")


def _rounds_beside(anchor: Sides, metric: Metric, old: LatencyRow, new: LatencyRow) -> list[Rounds] | None:
    """Find the rounds of the anchor in the same processes, before and after.

    Of the same file, or else of the runtime's file that is not in half precision: it shows phases of the machine too.
    """
    for name in dict.fromkeys((metric.of, new.runtime)):
        rows = [latency_row(side.variant, replace(metric, of=name)) for side in anchor]
        rounds: list[Rounds] = [row.rounds_ms if row else () for row in rows]
        if [len(each) for each in rounds] == [len(old.rounds_ms), len(new.rounds_ms)]:
            return rounds
    return None


def _anchor(sides: Sides) -> Sides | None:
    """Find the recipe's first reference, if it is the same model in both runs, and not the variant itself."""
    name = first_reference(sides.after.run)
    if name is None or name == sides.after.variant.id:
        return None
    found = pair(sides.before.run, sides.after.run, name)
    return found if found and found.same_key else None


def _relative(found: Ratio) -> Ratio:
    ends = [None if end is None else end - 1 for end in (found.low, found.high)]
    return Ratio(found.ratio - 1, *ends)


def _estimate(found: Ratio, basis: str) -> Measured:
    value, low, high = found
    if low is None or high is None:
        return Absent("timed in too few rounds for an interval; set measure.rounds to 30")
    return Estimate(value, basis, lambda _: (low, high))
