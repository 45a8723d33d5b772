"""The gap as a range over bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.efficiency.trends import gap

if TYPE_CHECKING:
    from compress.gap.record import Basis

ESSAY = "essay"
"""The trend that counts efficiency twice, and that no range includes."""


@dataclass(frozen=True)
class GapRange:
    """Smallest and largest gap of the bases that have data for the same years; without `essay`."""

    start: float
    end: float
    low: float
    low_basis: str
    high: float
    high_basis: str
    bases: int


def range_of(bases: Sequence[Basis]) -> GapRange | None:
    """Find the smallest and largest gap at the latest date that most bases reach; None for one basis.

    The choice of what hardware is measured by matters more than the sampling error of any fit, so the gap is a range.
    """
    usable = sorted((one for one in bases if one.gap is not None and one.name != ESSAY), key=lambda one: -one.end)
    if not usable:
        return None
    end = usable[len(usable) // 2].end
    same = [one for one in usable if one.end >= end]
    gaps = sorted((gap(one.growth, one.hardware, one.start, end), one.name) for one in same)
    if len(gaps) == 1:
        return None
    (low, low_basis), (high, high_basis) = gaps[0], gaps[-1]
    return GapRange(same[0].start, end, low, low_basis, high, high_basis, len(gaps))
