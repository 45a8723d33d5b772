"""Figures that rules bound: of one variant in a run and in its baseline, from their results alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from compress.efficiency.files import name_of
from compress.efficiency.verdict import Estimate
from compress.gate.accuracy import accuracy_figure, of_class, of_file
from compress.gate.latency import latency_figure, latency_row
from compress.gate.rules import OF_FILES, SCALARS, Metric, Rule
from compress.report.run_changes import Predicted, of_network
from compress.report.sides import Absent, Measured, Side, Sides, find_file
from compress.results import Artifact, Variant

COUNTED: Mapping[str, Callable[[Variant], float]] = {
    "size": lambda variant: variant.inference.bytes,
    "macs": lambda variant: variant.inference.macs,
    "parameters": lambda variant: variant.inference.params,
    "bit_operations": lambda variant: variant.inference.bit_operations,
    "training_macs": lambda variant: variant.training.macs,
}
COUNTED_OF_FILES: Mapping[str, Callable[[Artifact], float | None]] = {
    "size": lambda artifact: artifact.bytes,
    "integer_macs": lambda artifact: artifact.integer_macs_share,
}
UNCOUNTED_IS_ZERO = ("macs", "bit_operations")
COUNTED_BASIS = "counted"


@dataclass(frozen=True)
class Figures:
    """What a rule found for one variant.

    Attributes:
        baseline: The baseline's figure; None where it has none.
        value: The run's figure; None where it has none.
        measured: What the rule bounds, or why that is unknown.
    """

    baseline: float | None
    value: float | None
    measured: Measured


def metrics_of(variant: Variant, classes: tuple[str, ...]) -> Iterator[Metric]:
    """Yield every metric that a variant of a run with these classes has figures of."""
    yield from (Metric(name) for name in SCALARS)
    yield from (Metric("class", name) for name in classes)
    for artifact in variant.artifacts:
        yield from (Metric(name, name_of(artifact)) for name in OF_FILES)
    yield from (Metric("latency", name_of(row), str(row.batch)) for row in variant.inference.latency)


def find_figures(rule: Rule, metric: Metric, sides: Sides) -> Figures:
    """Find the figures of a metric in both runs, and estimate what the rule bounds."""
    if metric.family == "latency":
        rows = [latency_row(side.variant, metric) for side in sides]
        medians = [row.p50_ms if row else None for row in rows]
        return Figures(medians[0], medians[1], latency_figure(rule, metric, sides))
    if metric.family in ("top1", "class"):
        before, after = _predicted(sides.before, sides.after, metric), _predicted(sides.after, sides.before, metric)
        shares = [each.top1 if isinstance(each, Predicted) else None for each in (before, after)]
        return Figures(shares[0], shares[1], accuracy_figure(rule, sides, before, after))
    counts = [_counted(side.variant, metric) for side in sides]
    return Figures(counts[0], counts[1], _counted_figure(rule, counts[0], counts[1]))


def _predicted(side: Side, other: Side, metric: Metric) -> Predicted | Absent:
    if metric.family == "class":
        return of_class(side, other, metric.of or "")
    return of_file(side, metric.of) if metric.of else of_network(side.variant)


def _counted(variant: Variant, metric: Metric) -> float | None:
    if metric.of:
        artifact = find_file(variant, metric.of)
        return COUNTED_OF_FILES[metric.family](artifact) if artifact else None
    count = COUNTED[metric.family](variant)
    return None if not count and metric.family in UNCOUNTED_IS_ZERO else count


def _counted_figure(rule: Rule, baseline: float | None, value: float | None) -> Measured:
    if value is None:
        return Absent("the run has no figure of it")
    if rule.basis == "figure":
        return Estimate(value, COUNTED_BASIS)
    if baseline is None:
        return Absent("the baseline has no figure of it")
    if value == baseline:
        return Estimate(0.0, COUNTED_BASIS)
    if rule.basis == "difference":
        return Estimate(value - baseline, COUNTED_BASIS)
    return Estimate(value / baseline - 1, COUNTED_BASIS) if baseline else Absent("it is 0 in the baseline")
