"""The answer: what is missing where there is none, tests in a fixed sequence, and selection without test images."""

from __future__ import annotations

import re

import pytest
from sweep.arithmetic import SPACE, Arithmetic, Bench

TOLERANT = 0.06


def test_selection_reads_no_test_image(bench: Bench) -> None:
    """Other accuracy on test changes what is shown, and neither the front nor the order of the tests."""
    shifted = Arithmetic(shift=lambda lr, target: 0.02 if lr == 0.01 else -0.001)
    one, two = (bench.sweep(name=name, make=make) for name, make in (("one", Arithmetic()), ("two", shifted)))
    assert [point.dominance for point in one.points] == [point.dominance for point in two.points]
    assert one.answer.trial == two.answer.trial
    assert [row.number for row in one.answer.tested] == [row.number for row in two.answer.tested]
    assert one.answer.tested[0].top1 != two.answer.tested[0].top1


def test_tests_end_at_the_first_refusal(bench: Bench) -> None:
    """The second cheapest loses much on test alone: it and the cheapest are not granted, though that one is good."""
    make = Arithmetic(shift=lambda lr, target: -0.2 if target == 0.6 else 0.0)
    sweep = bench.sweep(tolerance=0.15, make=make)
    rows = sweep.answer.tested
    macs = [sweep.points[row.number].figures["macs"] for row in rows]
    assert macs == sorted(macs, reverse=True) == [8e5, 6e5, 4e5, 2e5]
    assert [row.granted for row in rows] == [True, False, False, False]
    assert rows[1].top1 is not None and rows[2].top1 is None
    assert (
        rows[2].reason
        == f"not tested, because trial {rows[1].number}, which costs more, is not shown to be as accurate"
    )
    assert sweep.answer.trial == rows[0].number


def test_only_the_front_is_tested(bench: Bench) -> None:
    sweep = bench.sweep()
    front = {point.number for point in sweep.points if point.dominance == "front"}
    assert {row.number for row in sweep.answer.tested} <= front and len(front) == 4


def test_file_of_the_latency_is_tested(bench: Bench) -> None:
    sweep = bench.sweep(SPACE.replace("macs]", "latency.openvino.1]"), tolerance=TOLERANT)
    assert {row.file for row in sweep.answer.tested} == {"openvino"}


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"budget": "macs<=1k"}, r"none keeps macs<=1k; closest is trial \d+: macs 200 k"),
        (
            {"budget": "latency.openvino.4<=1ms"},
            r"none: trial \d+ may keep latency.openvino.4<=1ms \(\), but .* unknown",
        ),
        (
            {"tolerance": 0.01, "budget": "macs<=400k"},
            "is the most accurate within the budget, and on validation it is 4.8 points less than teacher",
        ),
    ],
)
def test_missing_is_said(bench: Bench, more: dict[str, object], says: str) -> None:
    answer = bench.sweep(**more).answer
    assert answer.trial is None and answer.command is None
    assert re.search(says, answer.sentence), answer.sentence


def test_latency_on_the_bound_is_not_told(bench: Bench) -> None:
    """0.2 ms with an interval over processes of about 1% on both sides."""
    text = SPACE.replace("[pruned, int8]", "[pruned]")
    answer = bench.sweep(text, budget="latency.openvino.1<=0.2ms").answer
    assert answer.trial is None and "may keep latency.openvino.1<=0.2ms" in answer.sentence
    assert "the 95% interval of latency.openvino.1 is" in answer.sentence and "measure.processes" in answer.sentence


def test_nothing_done_is_said(bench: Bench) -> None:
    sweep = bench.sweep(trials=0)
    assert sweep.answer.sentence == "none: no trial is done" and sweep.compute.ratio is None


def test_none_is_shown_on_test(bench: Bench) -> None:
    make = Arithmetic(shift=lambda lr, target: -0.2)
    answer = bench.sweep(tolerance=TOLERANT, make=make).answer
    assert answer.trial is None and re.match(
        r"none: trial \d+, the first to be tested, is not granted: \S", answer.sentence
    )
    assert "all of it beyond the tolerance of 6 points" in answer.sentence
