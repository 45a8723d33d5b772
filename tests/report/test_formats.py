"""Formats of figures."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.report import formats as f
from compress.utils.messages import significant


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1_814_000_000, "1.81 GMACs"),
        (999_600_000, "1 GMACs"),
        (73_900_000, "73.9 MMACs"),
        (0, "0 MACs"),
        (512, "512 MACs"),
    ],
)
def test_macs_have_a_decimal_prefix(value: int, text: str) -> None:
    assert f.macs(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2500, "2.5 kJ"),
        (999.8, "1,000 J"),
        (12, "12 J"),
        (0.0031, "3.1 mJ"),
        (4.2e-5, "42 µJ"),
        (7e-9, "7 nJ"),
        (0, "0 nJ"),
    ],
)
def test_joules_have_a_prefix_below_one(value: float, text: str) -> None:
    assert f.joules(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.7, "1,000 ms"), (12345, "12,345 ms"), (999.4, "999 ms"), (12.34, "12.3 ms"), (0.5, "0.5 ms")],
)
def test_milliseconds_have_three_digits_or_are_whole(value: float, text: str) -> None:
    assert f.milliseconds(value) == text


@given(st.floats(0.001, 1e12), st.integers(2, 5))
def test_figures_are_never_in_scientific_notation(value: float, digits: int) -> None:
    text = significant(value, digits)
    assert "e" not in text and float(text.replace(",", "")) == pytest.approx(value, rel=0.06)


def test_unknown_is_never_zero() -> None:
    for write in (
        f.macs,
        f.count,
        f.size,
        f.percent,
        f.milliseconds,
        f.times,
        f.signed,
        f.months,
        f.queries,
        f.text,
        f.joules,
    ):
        assert write(None) == f.UNKNOWN
        assert write(0) != f.UNKNOWN
    assert f.points(None, None) == f.UNKNOWN


def test_accuracy_has_its_interval() -> None:
    assert f.accuracy(0.782, (0.765, 0.798)) == "78.2% (76.5 to 79.8%)"


def test_cells_of_points_sort_by_their_direction() -> None:
    cells = ("9.0 points under (8.0 to 10.0)", "8.2 points over (7.0 to 9.4)", "1.2 points more", "1.2 points less")
    assert [f.sort_value(cell) for cell in cells] == [-9.0, 8.2, -1.2, 1.2]


def test_points_say_the_direction() -> None:
    assert f.points(0.012, [0.003, 0.021]) == "1.2 points less (0.3 to 2.1)"
    assert f.points(-0.012, [-0.021, -0.003]) == "1.2 points more (0.3 to 2.1)"
    assert f.points(0.0, [-0.004, 0.004]) == "0.0 points (−0.4 to 0.4)"


@given(st.floats(1e-9, 1e30))
def test_scaled_figures_keep_two_digits(value: float) -> None:
    number, _, unit = f.macs(value).partition(" ")
    power = "kMGTPEZ".find(unit.removesuffix("MACs")[:1]) + 1 if unit != "MACs" else 0
    assert float(number) * 1000**power == pytest.approx(value, rel=0.01)


def test_control_and_direction_characters_are_replaced() -> None:
    assert f.plain("a\u202eb\x00c\n") == "a�b�c�"
