"""How long a run will still take: what its plan was expected to take, corrected by what was taken so far."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class TimeLeft:
    """Seconds that are left of the units of a plan.

    Args:
        rows: Of `compress.pipeline.estimate.estimate`.
    """

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        self._expected = {row["unit"]: float(row["seconds"]) for row in rows}
        self._done_expected = self._done_taken = 0.0

    def done(self, unit: str, seconds: float) -> None:
        """Take note that a unit was made in so many seconds."""
        self._done_expected += self._expected.pop(unit, 0.0)
        self._done_taken += seconds

    @property
    def pace(self) -> float:
        """Seconds that were taken for each that was expected; 1 before anything was made."""
        return self._done_taken / self._done_expected if self._done_expected else 1.0

    def after(self, unit: str) -> float:
        """Seconds of all units that are not made, but for this one."""
        return self.pace * sum(seconds for name, seconds in self._expected.items() if name != unit)
