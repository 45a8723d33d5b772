"""Marks and labels on a chart: geometry without a browser."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from compress.report.label_layout import STEP, Box, place_labels, side_by_side
from compress.report.scatter import telling_cost

FRAME = Box(0, 0, 300, 200)


def column(count: int, width: float = 11) -> list[Box]:
    """Marks of one cost, whose intervals overlap."""
    return [Box(150 - width / 2, 60 + number, 150 + width / 2, 140 + number) for number in range(count)]


def test_marks_of_one_place_stand_side_by_side() -> None:
    boxes = column(9)
    moved = [box.moved(move) for box, move in zip(boxes, side_by_side(boxes, FRAME), strict=True)]
    assert not any(a.meets(b) for a, b in combinations(moved, 2))
    assert all(box.within(FRAME) for box in moved)
    assert max(abs(box.left - 144.5) for box in moved) <= 4 * (11 + STEP), "as near as they can be"


def test_marks_that_are_apart_stay() -> None:
    assert side_by_side([Box(0, 0, 10, 10), Box(0, 11, 10, 20), Box(10, 0, 20, 10)], FRAME) == [0, 0, 0]


def test_where_there_is_no_room_a_mark_stays() -> None:
    assert side_by_side(column(3, width=290), FRAME) == [0, 0, 0]


@pytest.mark.parametrize("seed", range(20))
def test_labels_meet_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    marks = [Box(x, y, x + 11, y + rng.uniform(11, 40)) for x, y in rng.uniform((0, 0), (280, 150), (12, 2))]
    line = Box(100, 100, 102, 102)
    places = place_labels(marks, [(rng.uniform(10, 90), 15.0) for _ in marks], FRAME, [line])
    found = [place for place in places if place]
    assert len(found) >= 4
    assert not any(a.meets(b) for a, b in combinations(found, 2))
    assert not any(place.meets(other) for place in found for other in [*marks, line])
    assert all(place.within(FRAME) for place in found)


def test_a_label_alone_stands_right_of_its_mark_or_left_at_the_edge() -> None:
    (right,) = place_labels([Box(10, 90, 20, 110)], [(50, 15)], FRAME)
    (left,) = place_labels([Box(280, 90, 290, 110)], [(50, 15)], FRAME)
    assert right == Box(22, 92.5, 72, 107.5) and left == Box(228, 92.5, 278, 107.5)
    assert place_labels([Box(10, 90, 20, 110)], [(500, 15)], FRAME) == [None]


def test_the_cost_is_one_that_tells_variants_apart() -> None:
    dense, pruned = {"macs": 10, "bit_operations": 100}, {"macs": 5, "bit_operations": 50}
    int8 = {"macs": 10, "bit_operations": 7}
    macs, bits = ("macs", "MACs"), ("bit_operations", "bit operations")
    assert telling_cost([dense, pruned]) == telling_cost([dense, dense]) == telling_cost([]) == macs
    assert telling_cost([dense, int8, pruned]) == telling_cost([dense, int8, {"macs": None}]) == bits
    assert telling_cost([dense, int8, pruned, {**pruned, "bit_operations": 3}]) == macs
    assert telling_cost([dense, {**int8, "bit_operations": None}]) == macs
