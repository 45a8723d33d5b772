"""Rules of a gate: what they mean, and what is wrong with those that are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.gate.rules import DEFAULTS, FORMS, Metric, parse_rule, parse_rules, without_overridden


@pytest.mark.parametrize(
    ("text", "metric", "comparison", "bound", "basis"),
    [
        ("top1>=-0.5pt", Metric("top1"), ">=", -0.005, "difference"),
        ("top1>=−0.5pt", Metric("top1"), ">=", -0.005, "difference"),
        (" top1 >= + 0 pt ", Metric("top1"), ">=", 0, "difference"),
        ("top1>=0.9", Metric("top1"), ">=", 0.9, "figure"),
        ("top1.onnxruntime-cuda>=90%", Metric("top1", "onnxruntime-cuda"), ">=", 0.9, "figure"),
        ("size<=+1%", Metric("size"), "<=", 0.01, "ratio"),
        ("size<=+.5MB", Metric("size"), "<=", 500_000, "difference"),
        ("size.*<=10MiB", Metric("size", "*"), "<=", 10 * 2**20, "figure"),
        ("macs<=150M", Metric("macs"), "<=", 150e6, "figure"),
        ("parameters>=-10%", Metric("parameters"), ">=", -0.1, "ratio"),
        ("integer_macs.openvino>=-1pt", Metric("integer_macs", "openvino"), ">=", -0.01, "difference"),
        ("latency.openvino.16<=+5%", Metric("latency", "openvino", "16"), "<=", 0.05, "ratio"),
        ("latency.*.016<=2s", Metric("latency", "*", "16"), "<=", 2000, "figure"),
        ("latency.openvino fp16.16<=+5%", Metric("latency", "openvino fp16", "16"), "<=", 0.05, "ratio"),
        ("latency.openvino-bf16.16<=+5%", Metric("latency", "openvino bf16", "16"), "<=", 0.05, "ratio"),
        ("size.onnxruntime-fp16<=+1%", Metric("size", "onnxruntime fp16"), "<=", 0.01, "ratio"),
        ("class.cat.top1>=-2pt", Metric("class", "cat"), ">=", -0.02, "difference"),
        ("class.St. Bernard.v2.top1 >= 50%", Metric("class", "St. Bernard.v2"), ">=", 0.5, "figure"),
        ("class.a>=1.top1>=50%", Metric("class", "a>=1"), ">=", 0.5, "figure"),
    ],
)
def test_rules_are_read(text: str, metric: Metric, comparison: str, bound: float, basis: str) -> None:
    rule = parse_rule(text)
    assert (rule.metric, rule.comparison, rule.basis) == (metric, comparison, basis)
    assert rule.bound == pytest.approx(bound)
    assert parse_rule(str(rule)) == rule, "it can be written down and read again"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("top1", "not METRIC>=BOUND or METRIC<=BOUND; write e.g. top1>=-0.5pt"),
        ("top1>-0.5pt", "not METRIC>=BOUND"),
        ("top1==0.9", "not METRIC>=BOUND"),
        ("top1>=nan", "not METRIC>=BOUND"),
        ("top1>=-0.5", "a change of top1 is in pt, not a bare number; write e.g. -0.5pt"),
        ("top1>=-0.5%", "a change of top1 is in pt, not %; write e.g. -0.5pt"),
        ("top1>=0.5pt", "a change has a sign; write +0.5pt or -0.5pt, or a figure such as 90%"),
        ("size<=1%", "a change has a sign; write +1% or -1%, or a figure such as 10MB"),
        ("top1>=90", "90 is too much; write a figure as 90%, a change as -0.5pt"),
        (f"size<={'9' * 400}B", "9...B is too much"),
        ("size<=10", "a figure of size is in B, kB, MB, GB, KiB, MiB or GiB, not a bare number; write e.g. 10MB"),
        ("latency.openvino.1<=+1ms", "a change of latency.openvino.1 is in %, not ms; write e.g. +5%"),
        ("latency.openvino<=+5%", "latency needs a runtime and a batch size; write latency.openvino.16"),
        ("latency.openvino.x<=+5%", "latency needs a runtime and a batch size"),
        ("top-1>=-0.5pt", "unknown metric 'top-1'; did you mean 'top1'? choose one of top1, size"),
        ("macs.openvino<=+1%", "unknown metric 'macs.openvino'"),
        ("top1.>=-1pt", "unknown metric 'top1.'"),
        ("class..top1>=-1pt", "unknown metric 'class..top1'"),
        ("\x1b[2Jtop1>=-1", "unknown metric '\\x1b[2Jtop1'"),
    ],
)
def test_a_wrong_rule_is_explained_in_one_line(text: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_rule(text)
    assert words in str(refused.value)
    rules, (problem,) = parse_rules(["top1>=90%", text])
    assert len(rules) == 1 and problem.startswith("rule '") and problem.isprintable()


@given(st.text(max_size=40))
def test_any_text_is_a_rule_or_a_problem(text: str) -> None:
    rules, problems = parse_rules([text])
    assert len(rules) + len(problems) == 1


def test_defaults_and_forms_are_rules() -> None:
    assert parse_rules(DEFAULTS)[1] == []
    for form in FORMS:
        example = form.replace("FILE", "openvino").replace("BATCH", "1").replace("NAME", "cat")
        metric = parse_rule(f"{example}<=+1%" if "top1" not in form and "integer" not in form else f"{example}>=1%")
        assert str(metric.metric) == example


@pytest.mark.parametrize(
    ("exact", "overrides"),
    [
        ("size.openvino<=+9%", True),
        ("size.openvino<=+100kB", True),  # a change too
        ("size.openvino<=10MB", False),
        ("size.openvino>=+0%", False),
        ("size.openvino fp16<=+9%", False),
    ],
)
def test_only_a_rule_of_the_same_kind_overrides_a_pattern(exact: str, overrides: bool) -> None:
    rules = [parse_rule("size.*<=+1%"), parse_rule(exact)]
    metrics = [Metric("size", "openvino")]
    assert without_overridden(rules[0], rules, metrics) == ([] if overrides else metrics)


@pytest.mark.parametrize(("number", "bound"), [("0.7", 0.007), ("0.29", 0.0029), ("1.1", 0.011), ("5.8", 0.058)])
def test_bounds_are_the_decimal_numbers_that_are_written(number: str, bound: float) -> None:
    assert parse_rule(f"top1>=-{number}pt").bound == -bound


def test_a_pattern_covers_what_no_other_rule_names() -> None:
    rules = [parse_rule(text) for text in ("class.*.top1>=-5pt", "class.cat.top1>=-2pt", "class.cat.top1<=+9pt")]
    metrics = [Metric("top1"), Metric("class", "cat"), Metric("class", "dog")]
    assert without_overridden(rules[0], rules, metrics) == [Metric("class", "dog")]
    assert without_overridden(rules[1], rules, metrics) == [Metric("class", "cat")]
    assert without_overridden(rules[0], rules[::2], metrics) == metrics[1:], "another comparison overrides nothing"
    assert not parse_rule("top1.*>=-1pt").metric.covers(Metric("top1")), "the network is no file"
    assert parse_rule("top1.*>=-1pt").metric.covers(Metric("top1", "openvino fp16"))
    assert not parse_rule("top1.openvino>=-1pt").metric.covers(Metric("top1", "openvino fp16"))
    assert parse_rule("latency.*.1<=5ms").metric.covers(Metric("latency", "openvino", "1"))
    assert not parse_rule("latency.*.1<=5ms").metric.covers(Metric("latency", "openvino", "16"))
