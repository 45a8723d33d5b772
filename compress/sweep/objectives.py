"""Figures of a variant that a sweep optimizes and bounds: accuracy on validation, and costs by the names of gate rules.

No figure of the test split is one: whatever a sweep selects by, it is tested on.
"""

from __future__ import annotations

from collections.abc import Sequence

from compress.efficiency.verdict import Estimate
from compress.gate.figures import find_figures, metrics_of
from compress.gate.rules import Metric, Rule, parse_metric, parse_rules
from compress.report.sides import Absent, Measured, Side, Sides
from compress.results import RunRecord, Variant
from compress.utils.errors import SeveralErrors
from compress.utils.messages import did_you_mean, one_line

VALIDATION = "validation"
COSTS = ("macs", "size", "parameters", "bit_operations", "training_macs", "latency")
"""Families of metrics that are costs: less is better."""

_FORMS = (VALIDATION, *COSTS[:-1], "size.FILE", "latency.FILE.BATCH")
_OF_TEST = "is measured on the test split, which selects nothing"


def parse_objective(name: str) -> Metric | None:
    """Parse the name of an objective; None is accuracy on validation.

    Raises:
        ValueError: it is not an objective; the message says why and what to write.
    """
    if name == VALIDATION:
        return None
    try:
        metric = parse_metric(name)
    except ValueError:
        hint = did_you_mean(name, _FORMS) or ";"
        raise ValueError(f"unknown objective '{one_line(name)}'{hint} choose among {', '.join(_FORMS)}") from None
    if metric.family not in COSTS:
        why = _OF_TEST if metric.family in ("top1", "class") else "is not a cost"
        raise ValueError(f"objective '{one_line(name)}' {why}; choose among {', '.join(_FORMS)}")
    if metric.is_pattern:
        raise ValueError(f"objective '{one_line(name)}' stands for several; name one")
    return metric


def parse_budget(text: str) -> list[Rule]:
    """Parse `latency.openvino.1<=5ms,size<=10MB`; all mistakes are raised at once, as a `UsageError`."""
    rules, problems = parse_rules([part for part in text.split(",") if part.strip()])
    for rule in rules:
        name = one_line(str(rule))
        if rule.metric.family in ("top1", "class"):
            problems.append(f"rule '{name}': {rule.metric} {_OF_TEST}; bound its loss by --tolerance")
        elif rule.metric.family not in COSTS or rule.metric.is_pattern:
            problems.append(f"rule '{name}': a budget is on one of {', '.join(_FORMS[1:])}")
        elif rule.basis != "figure" or rule.comparison != "<=":
            problems.append(f"rule '{name}': a budget is a largest figure; write e.g. {rule.metric}<={_example(rule)}")
    if not rules and not problems:
        problems.append("--budget is empty; write e.g. latency.openvino.1<=5ms,size<=10MB")
    if problems:
        raise SeveralErrors(f"--budget: {problem}" for problem in problems)
    return rules


def _example(rule: Rule) -> str:
    return rule.metric.unit.example[1]


def figures_of(run: RunRecord, variant: Variant) -> dict[str, float]:
    """Return accuracy on validation and all costs of a variant that are known, by name."""
    found = {VALIDATION: variant.validation.top1} if variant.validation else {}
    side = Side(run, variant)
    for metric in metrics_of(variant, ()):
        if metric.family in COSTS and (value := _figure(metric, side)) is not None:
            found[str(metric)] = value
    return found


def measured(rule: Rule, run: RunRecord, variant: Variant) -> Measured:
    """Estimate the figure that a budget bounds; latency has an interval over processes."""
    side = Side(run, variant)
    return find_figures(rule, rule.metric, Sides(side, side)).measured


def cost_ratio(metric: Metric, before: Side, after: Side) -> Estimate | Absent:
    """Estimate by how much a cost of one variant differs from that of another: -0.1 is 10% less."""
    rule = Rule(metric, "<=", 0.0, "ratio", "+0%")
    return find_figures(rule, metric, Sides(before, after)).measured


def missing_objectives(names: Sequence[str], figures: dict[str, float]) -> str | None:
    """Say which objective a variant has no figure of, and which there are; None if it has all."""
    for name in names:
        if name not in figures:
            close = did_you_mean(name, figures) or ";"
            return f"no figure of {name}{close} the run has {', '.join(figures)}"
    return None


def _figure(metric: Metric, side: Side) -> float | None:
    return find_figures(Rule(metric, "<=", 0.0, "figure", "0"), metric, Sides(side, side)).value
