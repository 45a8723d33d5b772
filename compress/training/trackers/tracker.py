"""Base of experiment trackers: one class per tracker, in a module of its own and a line of `compress.registry`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

Setting = str | int | float | bool | None


@dataclass(frozen=True)
class TrackedStage:
    """A stage of a run, as trackers know it: each is a run of theirs, in the group of all stages of the run."""

    recipe: str  # name of the recipe: project or experiment
    run: str  # name of the run's folder: group
    stage: str  # id of the stage
    folder: Path  # for local files; the same for all stages of the run
    settings: Mapping[str, Setting] = field(default_factory=dict)  # by dotted key

    @property
    def name(self) -> str:
        """Name among all stages of all runs of the recipe."""
        return f"{self.run}-{self.stage}"


class Tracker:
    """What a tracker keeps of one stage, through one of Lightning's loggers. Any method may raise anything."""

    def __init__(self, stage: TrackedStage) -> None:
        self.stage = stage
        self.step = 0  # the last one that was logged
        self.logger = self.open(stage)
        self.logger.log_hyperparams(dict(stage.settings))

    def open(self, stage: TrackedStage) -> Logger:
        """Start a run of the tracker."""
        raise NotImplementedError

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of a fit after an optimizer step."""
        self.step = max(self.step, step)
        self.logger.log_metrics(dict(metrics), step)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Log what was measured of the finished variant."""
        self.logger.log_metrics(dict(metrics), self.step)

    def end_fit(self) -> None:
        """Write what is buffered: a fit has ended, others of the same stage and the results may follow."""
        self.logger.save()

    def close(self, success: bool) -> None:
        """End the tracker's run."""
        self.logger.finalize("success" if success else "failed")
