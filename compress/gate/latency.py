"""Latency of a variant in a runtime: the run's, or its change from the baseline's."""

from __future__ import annotations

from compress.efficiency.timing import median_interval
from compress.gate.rules import Metric, Rule
from compress.report.run_changes import as_estimate, find_row, latency_change, too_few_processes
from compress.report.sides import Absent, Measured, Sides
from compress.results import LatencyRow, Variant


def latency_row(variant: Variant, metric: Metric) -> LatencyRow | None:
    """Find the row of a metric, which names a file and a batch size."""
    return find_row(variant, metric.of or "", int(metric.batch or 0))


def latency_figure(rule: Rule, metric: Metric, sides: Sides) -> Measured:
    """Estimate the run's median in ms, or its relative change if both runs were timed on the same kind of machine."""
    old, new = (latency_row(side.variant, metric) for side in sides)
    if new is None:
        return Absent("the run has not timed it")
    if rule.basis == "figure":
        if reason := too_few_processes(new):
            return Absent(reason)
        return as_estimate(median_interval(new.rounds_ms), f"{len(new.rounds_ms)} processes")
    if old is None:
        return Absent("the baseline has not timed it")
    return latency_change(sides, old, new).measured
