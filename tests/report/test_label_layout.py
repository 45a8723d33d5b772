"""Marks and labels on a chart: geometry without a browser."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pytest

from compress.report.label_layout import STEP, Box, place_labels, side_by_side
from compress.report.scatter import BIT_OPERATIONS, MACS, distinguishing_cost

FRAME = Box(0, 0, 300, 200)


def column(count: int, width: float = 11) -> list[Box]:
    """Marks of one cost, whose intervals overlap."""
    return [Box(150 - width / 2, 60 + number, 150 + width / 2, 140 + number) for number in range(count)]


def test_overlapping_marks_stand_side_by_side() -> None:
    boxes = column(9)
    moved = [box.moved(move) for box, move in zip(boxes, side_by_side(boxes, FRAME), strict=True)]
    assert not any(a.meets(b) for a, b in combinations(moved, 2))
    assert all(box.within(FRAME) for box in moved)
    assert max(abs(box.left - 144.5) for box in moved) <= 4 * (11 + STEP), "as near as they can be"


def test_marks_that_do_not_overlap_stay() -> None:
    assert side_by_side([Box(0, 0, 10, 10), Box(0, 11, 10, 20), Box(10, 0, 20, 10)], FRAME) == [0, 0, 0]


def test_mark_without_room_stays() -> None:
    assert side_by_side(column(3, width=290), FRAME) == [0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_labels_overlap_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = [Box(x, y, x + 11, y + rng.uniform(11, 40)) for x, y in rng.uniform((0, 0), (280, 150), (12, 2))]
    line = Box(100, 100, 102, 102)
    places = place_labels(marks, [(rng.uniform(10, 90), 15.0) for _ in marks], FRAME, [line])
    found = [place for place in places if place]
    assert len(found) >= 4
    assert not any(a.meets(b) for a, b in combinations(found, 2))
    assert not any(place.meets(other) for place in found for other in [*marks, line])
    assert all(place.within(FRAME) for place in found)


def test_single_label_is_right_of_its_mark_or_left_at_the_edge() -> None:
    (right,) = place_labels([Box(10, 90, 20, 110)], [(50, 15)], FRAME)
    (left,) = place_labels([Box(280, 90, 290, 110)], [(50, 15)], FRAME)
    assert right == Box(22, 92.5, 72, 107.5) and left == Box(228, 92.5, 278, 107.5)
    assert place_labels([Box(10, 90, 20, 110)], [(500, 15)], FRAME) == [None]


@dataclass(frozen=True)
class Costs:
    macs: int
    bit_operations: int


def test_cost_axis_shows_bit_operations_where_most_variants_differ_in_these_alone() -> None:
    dense, pruned, int8 = Costs(10, 100), Costs(5, 50), Costs(10, 7)
    assert (
        distinguishing_cost([dense, pruned]) == distinguishing_cost([dense, dense]) == distinguishing_cost([]) == MACS
    )
    assert distinguishing_cost([dense, int8, pruned]) == distinguishing_cost([dense, int8, Costs(0, 0)])
    assert distinguishing_cost([dense, int8, pruned]) == BIT_OPERATIONS
    assert distinguishing_cost([dense, int8, pruned, Costs(5, 3)]) == MACS
    assert distinguishing_cost([dense, Costs(10, 0)]) == MACS
