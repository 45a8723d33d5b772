"""Placement of marks and labels without overlaps, in points from the lower left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.transforms import Bbox, BboxBase

GAP = 2.0  # points between a label and its mark
STEP = 2.0  # points by which a mark is moved until it is free


def side_by_side(boxes: Sequence[Bbox], frame: BboxBase) -> list[Bbox]:
    """Move each box left or right until it overlaps none before it; one without room in the frame stays."""
    placed: list[Bbox] = []
    for box in boxes:
        moves = (sign * k * STEP for k in range(int(frame.width / STEP) + 1) for sign in (1, -1))
        candidates = (box.translated(move, 0) for move in moves)
        placed.append(next((moved for moved in candidates if _is_free(moved, placed, frame)), box))
    return placed


def place_labels(
    marks: Sequence[Bbox], sizes: Sequence[tuple[float, float]], frame: BboxBase, others: Sequence[Bbox] = ()
) -> list[Bbox | None]:
    """Place each label beside its mark, where it overlaps no mark and no other label and is within the frame.

    Labels with the fewest free places are placed first.

    Args:
        marks: [labels], each with its interval.
        sizes: [labels], width and height.
        frame: Box that labels stay within.
        others: Further boxes that labels must not overlap.

    Returns:
        [labels]; None where no place is free.
    """
    fixed = [*marks, *others]
    free = [
        [box for box in _beside(mark, *size) if _is_free(box, fixed, frame)]
        for mark, size in zip(marks, sizes, strict=True)
    ]
    places: list[Bbox | None] = [None] * len(marks)
    for number in sorted(range(len(marks)), key=lambda number: len(free[number])):
        taken = [place for place in places if place]
        places[number] = next((box for box in free[number] if _is_free(box, taken, frame)), None)
    return places


def _is_free(box: Bbox, taken: Sequence[Bbox], frame: BboxBase) -> bool:
    """Whether a box is within the frame and shares no more than an edge with others."""
    within = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    return within and not (taken and box.count_overlaps(taken))


def _beside(mark: Bbox, width: float, height: float) -> Iterator[Bbox]:
    """Places beside a mark, the best first: at its sides, above and below it, and then less clearly its own."""
    from matplotlib.transforms import Bbox

    x, y = (mark.x0 + mark.x1) / 2 - width / 2, (mark.y0 + mark.y1) / 2 - height / 2
    sides = (mark.x1 + GAP, mark.x0 - GAP - width)
    ends = (mark.y1 + GAP, mark.y0 - GAP - height)
    rises = (y + height / 2, y - height / 2, y + height, y - height)
    corners = [
        *((left, y) for left in sides),
        *((x, low) for low in ends),
        *((left, low) for low in rises for left in sides),
        *((left, low) for left in (mark.x0, mark.x1 - width) for low in ends),
    ]
    return (Bbox.from_bounds(left, low, width, height) for left, low in corners)
