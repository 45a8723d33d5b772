"""Remaining time of a run: the estimate of its plan, scaled by the pace so far."""

from __future__ import annotations

from collections.abc import Iterable

from compress.pipeline.cost_model import PlanRow


class TimeLeft:
    """Remaining seconds of the stages of a plan, from the estimates of `compress.pipeline.cost_model.expected`."""

    def __init__(self, rows: Iterable[PlanRow]) -> None:
        self._expected = {row.unit: row.seconds for row in rows}
        self._done_expected = self._done_taken = 0.0

    def done(self, unit: str, seconds: float) -> None:
        """Record the seconds that a stage took."""
        self._done_expected += self._expected.pop(unit, 0.0)
        self._done_taken += seconds

    def drop(self, unit: str) -> None:
        """Forget a stage that takes no time here: it failed, was skipped, or is in the store."""
        self._expected.pop(unit, None)

    @property
    def pace(self) -> float:
        """Seconds taken per second expected; 1 before the first stage is done."""
        return self._done_taken / self._done_expected if self._done_expected else 1.0

    def after(self, unit: str) -> float:
        """Return the remaining seconds of the stages after this one."""
        return self.pace * sum(seconds for name, seconds in self._expected.items() if name != unit)
