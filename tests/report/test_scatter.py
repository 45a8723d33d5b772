"""Placement of marks on a chart, and its cost axis."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from matplotlib.transforms import Bbox

from compress.report.scatter import BIT_OPERATIONS, MACS, STEP, distinguishing_cost, side_by_side

box = Bbox.from_extents
FRAME = box(0, 0, 300, 200)


def column(count: int, width: float = 11) -> list[Bbox]:
    """Marks of one cost, whose intervals overlap."""
    return [box(150 - width / 2, 60 + number, 150 + width / 2, 140 + number) for number in range(count)]


def extents(boxes: Iterable[Bbox]) -> list[list[float]]:
    return [each.extents.tolist() for each in boxes]


def within(inner: Bbox, outer: Bbox) -> bool:
    return outer.x0 <= inner.x0 and inner.x1 <= outer.x1 and outer.y0 <= inner.y0 and inner.y1 <= outer.y1


def test_overlapping_marks_stand_side_by_side() -> None:
    moved = side_by_side(column(9), FRAME)
    assert not any(a.count_overlaps([b]) for a, b in combinations(moved, 2))
    assert all(within(mark, FRAME) for mark in moved)
    assert max(abs(mark.x0 - 144.5) for mark in moved) <= 4 * (11 + STEP), "as near as they can be"


def test_marks_that_do_not_overlap_stay() -> None:
    marks = [box(0, 0, 10, 10), box(0, 11, 10, 20), box(10, 0, 20, 10)]
    assert extents(side_by_side(marks, FRAME)) == extents(marks)


def test_marks_without_room_stay() -> None:
    assert extents(side_by_side(column(3, width=290), FRAME)) == extents(column(3, width=290))


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
