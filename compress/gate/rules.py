"""Rules of a gate: `METRIC>=BOUND` or `METRIC<=BOUND`.

A bound with a sign is a change against the baseline, `top1>=-0.5pt` or `size<=+1%`; one without is a figure of the run
itself, `top1>=90%` or `latency.openvino.1<=5ms`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from compress.efficiency.verdict import Comparison
from compress.utils.messages import did_you_mean, join_words, one_line
from compress.utils.precision import HALF, file_name

Basis = Literal["figure", "difference", "ratio"]
"""What a rule bounds: the run's figure, the run's minus the baseline's, or the relative change."""

UnitName = Literal["share", "bytes", "count", "ms"]

ANY = "*"
POINT = "pt"

_RULE = re.compile(
    r"\s*(?P<metric>\S.*?)\s*(?P<comparison>[<>]=)\s*(?P<sign>[-+−]?)\s*(?P<number>\d+\.?\d*|\.\d+)\s*(?P<unit>[a-zA-Zµ%]*)\s*",
    re.ASCII | re.DOTALL,
)


@dataclass(frozen=True)
class Unit:
    """Units of a family of metrics.

    Attributes:
        name: What figures are in: share is a fraction.
        figures: What a number in each unit is multiplied by, for a figure; "" is a number without a unit.
        differences: The same for a difference from the baseline; "%" is always a relative change.
        most: The largest figure.
        example: A change and a figure as they are written.
    """

    name: UnitName
    figures: Mapping[str, float]
    differences: Mapping[str, float]
    example: tuple[str, str]
    most: float = sys.float_info.max


_BYTES = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_COUNTS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
SHARE = Unit("share", {"": 1, "%": 0.01}, {POINT: 0.01}, ("-0.5pt", "90%"), most=1)
BYTES = Unit("bytes", _BYTES, {**_BYTES, "%": 0.01}, ("+1%", "10MB"))
COUNT = Unit("count", _COUNTS, {**_COUNTS, "%": 0.01}, ("+1%", "100M"))
TIME = Unit("ms", {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3}, {"%": 0.01}, ("+5%", "5ms"))

SCALARS: Mapping[str, Unit] = {
    "top1": SHARE,
    "size": BYTES,
    "macs": COUNT,
    "parameters": COUNT,
    "bit_operations": COUNT,
    "training_macs": COUNT,
}
"""Metrics of a variant."""

OF_FILES: Mapping[str, Unit] = {"top1": SHARE, "size": BYTES, "integer_macs": SHARE}
"""Metrics of a file, by its name, which is the runtime and half precision: `top1.openvino`, `top1.openvino fp16`."""

FORMS = (*SCALARS, *(f"{name}.FILE" for name in OF_FILES), "class.NAME.top1", "latency.FILE.BATCH")

DEFAULTS = ("top1>=-1pt", "top1.*>=-1pt", "size<=+1%", "macs<=+1%")
"""Rules of a gate that is given none."""


@dataclass(frozen=True)
class Metric:
    """A figure of a variant: of the whole, of a class, or of a file (at a batch size); `*` stands for all of them."""

    family: str
    of: str | None = None
    batch: str | None = None

    def __str__(self) -> str:
        if self.family == "class":
            return f"class.{self.of}.top1"
        return ".".join(part for part in (self.family, self.of, self.batch) if part is not None)

    @property
    def unit(self) -> Unit:
        """Units of its figures."""
        if self.family == "latency":
            return TIME
        return SHARE if self.family == "class" else SCALARS.get(self.family) or OF_FILES[self.family]

    @property
    def is_pattern(self) -> bool:
        """Whether it stands for several metrics."""
        return ANY in (self.of, self.batch)

    def covers(self, other: Metric) -> bool:
        """Return whether another metric is this one, or one that this pattern stands for."""
        return self.family == other.family and all(
            own == theirs or (own == ANY and theirs is not None)
            for own, theirs in ((self.of, other.of), (self.batch, other.batch))
        )


@dataclass(frozen=True)
class Rule:
    """A bound on a metric: `bound` in the unit of the figures, fractions, bytes or ms; a ratio's as 0.05 for +5%."""

    metric: Metric
    comparison: Comparison
    bound: float
    basis: Basis
    written: str  # the bound as it was written, with its unit

    def __str__(self) -> str:
        return f"{self.metric}{self.comparison}{self.written}"


def parse_rules(texts: Sequence[str]) -> tuple[list[Rule], list[str]]:
    """Parse rules; return those that are right, and a line for each that is wrong."""
    rules, problems = [], []
    for text in texts:
        try:
            rules.append(parse_rule(text))
        except ValueError as error:
            problems.append(f"rule '{one_line(text)}': {error}")
    return rules, problems


def parse_rule(text: str) -> Rule:
    """Parse one rule.

    Raises:
        ValueError: it is not a rule; the message says why and what to write.
    """
    found = _RULE.fullmatch(text)
    if not found:
        raise ValueError("not METRIC>=BOUND or METRIC<=BOUND; write e.g. top1>=-0.5pt, size<=+1% or top1>=90%")
    metric = parse_metric(found["metric"])
    sign, unit = found["sign"].replace("−", "-"), found["unit"]
    change, figure = metric.unit.example
    scales = metric.unit.differences if sign else metric.unit.figures
    if unit not in scales:
        raise ValueError(_wrong_unit(metric, sign, found["number"], unit))
    bound = float(Decimal(f"{sign}{found['number']}") * Decimal(str(scales[unit])))  # -0.7pt is -0.007, to the last bit
    if abs(bound) > metric.unit.most:
        raise ValueError(
            f"{one_line(found['number'])}{unit} is too much; write a figure as {figure}, a change as {change}"
        )
    comparison: Comparison = ">=" if found["comparison"] == ">=" else "<="
    basis: Basis = "figure" if not sign else "ratio" if unit == "%" else "difference"
    return Rule(metric, comparison, bound, basis, f"{sign}{found['number']}{unit}")


def _wrong_unit(metric: Metric, sign: str, number: str, unit: str) -> str:
    change, figure = metric.unit.example
    known = join_words(name or "no unit" for name in (metric.unit.differences if sign else metric.unit.figures))
    if sign:
        return f"a change of {metric} is in {known}, not {unit or 'a bare number'}; write e.g. {change}"
    if unit in metric.unit.differences:
        return f"a change has a sign; write +{number}{unit} or -{number}{unit}, or a figure such as {figure}"
    return (
        f"a figure of {metric} is in {known}, not {unit or 'a bare number'}; write e.g. {figure}, or a change {change}"
    )


def parse_metric(text: str) -> Metric:
    """Parse a metric; names of classes may contain dots and spaces.

    Raises:
        ValueError: the metric is unknown; the message says what to write.
    """
    if text.startswith("class.") and text.endswith(".top1") and len(text) > len("class..top1"):
        return Metric("class", text[len("class.") : -len(".top1")])
    family, _, rest = text.partition(".")
    if family == "latency":
        runtime, _, batch = rest.rpartition(".")
        if not runtime or not (batch == ANY or (batch.isdecimal() and batch.isascii())):
            raise ValueError("latency needs a runtime and a batch size; write latency.openvino.16 or latency.*.*")
        return Metric(family, _file(runtime), batch if batch == ANY else str(int(batch)))
    if (rest and family in OF_FILES) or (not rest and family in SCALARS and "." not in text):
        return Metric(family, _file(rest) or None)
    raise ValueError(f"unknown metric '{one_line(text)}'{_suggestion(text)}")


def _file(text: str) -> str:
    """Name a file as results do; the name of its folder, `openvino-fp16`, is accepted too."""
    runtime, _, precision = text.rpartition("-")
    return file_name(runtime, precision) if runtime and precision in HALF else text


def _suggestion(text: str) -> str:
    return f"{did_you_mean(text, FORMS) or ';'} choose one of {', '.join(FORMS)}"


def without_overridden(rule: Rule, rules: Iterable[Rule], metrics: Iterable[Metric]) -> list[Metric]:
    """Select the metrics that a rule covers: a pattern is the default for those that no other rule names exactly.

    Only a rule of the same kind overrides it: with the same side, and on the figure or on its change as the pattern is.
    """
    exact = {other.metric for other in rules if not other.metric.is_pattern and _kind(other) == _kind(rule)}
    return [each for each in metrics if rule.metric.covers(each) and (not rule.metric.is_pattern or each not in exact)]


def _kind(rule: Rule) -> tuple[Comparison, bool]:
    return rule.comparison, rule.basis == "figure"
