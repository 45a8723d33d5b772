"""Where marks and their labels go so that none covers another: plain geometry, in points from the lower left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

APART = 2.0  # points between a label and what is beside it
STEP = 2.0  # points by which a mark is moved until it is free


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    low: float
    right: float
    high: float

    def meets(self, other: Box) -> bool:
        """Whether the two share more than an edge."""
        across = self.left < other.right and other.left < self.right
        return across and self.low < other.high and other.low < self.high

    def within(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.low <= self.low and self.high <= other.high

    def moved(self, across: float) -> Box:
        return Box(self.left + across, self.low, self.right + across, self.high)


def side_by_side(boxes: Sequence[Box], frame: Box) -> list[float]:
    """How far each box goes to the right (or left, below 0) so that it meets none before it.

    A box for which there is no room in the frame stays where it is.
    """
    taken: list[Box] = []
    moves = []
    most = int((frame.right - frame.left) / STEP)
    for box in boxes:
        tried = (sign * k * STEP for k in range(most + 1) for sign in (1, -1))
        free = (move for move in tried if _is_free(box.moved(move), taken, frame))
        moves.append(next(free, 0.0))
        taken.append(box.moved(moves[-1]))
    return moves


def place_labels(
    marks: Sequence[Box], sizes: Sequence[tuple[float, float]], frame: Box, others: Sequence[Box] = ()
) -> list[Box | None]:
    """A place beside each mark for its label, where it meets no mark, no other label and not the frame.

    Labels with the fewest free places are placed first.

    Args:
        marks: [labels], each with its interval.
        sizes: [labels], width and height.
        frame: What labels stay within.
        others: Further boxes that labels must not meet.

    Returns:
        [labels]; None where no place is free.
    """
    fixed = [*marks, *others]
    free = [
        [box for box in _beside(mark, *size) if _is_free(box, fixed, frame)]
        for mark, size in zip(marks, sizes, strict=True)
    ]
    places: list[Box | None] = [None] * len(marks)
    for number in sorted(range(len(marks)), key=lambda number: len(free[number])):
        taken = [place for place in places if place]
        places[number] = next((box for box in free[number] if _is_free(box, taken, frame)), None)
    return places


def _is_free(box: Box, taken: Sequence[Box], frame: Box) -> bool:
    return box.within(frame) and not any(box.meets(other) for other in taken)


def _beside(mark: Box, width: float, height: float) -> Iterator[Box]:
    """Places at a mark, the best first: at its sides, over and under it, and then less plainly its own."""
    x, y = (mark.left + mark.right) / 2 - width / 2, (mark.low + mark.high) / 2 - height / 2
    sides = (mark.right + APART, mark.left - APART - width)
    ends = (mark.high + APART, mark.low - APART - height)
    rises = (y + height / 2, y - height / 2, y + height, y - height)
    columns = (mark.left, mark.right - width)
    corners = [
        *((left, y) for left in sides),
        *((x, low) for low in ends),
        *((left, low) for low in rises for left in sides),
        *((left, low) for left in columns for low in ends),
    ]
    return (Box(left, low, left + width, low + height) for left, low in corners)
