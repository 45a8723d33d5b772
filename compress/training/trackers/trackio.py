"""Trackio: a local database (`TRACKIO_DIR`), or the Space or server of `TRACKIO_SPACE_ID` or `TRACKIO_SERVER_URL`."""

from __future__ import annotations

import io
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import trackio
from lightning.pytorch.loggers import Logger
from trackio import context_vars

from compress.training.trackers.tracker import TrackedStage, Tracker


class TrackioLogger(Logger):
    """A Lightning logger for Trackio, which brings none.

    Trackio has one active run per process, so that a run is ended by `save` and resumed when more is logged. Used by
    the first process only.
    """

    def __init__(self, project: str, name: str, group: str) -> None:
        super().__init__()
        self.project, self.run_name, self.group = project, name, group
        self.settings: dict[str, Any] = {}
        self._run: trackio.Run | None = None

    @property
    def name(self) -> str:
        return self.project

    @property
    def version(self) -> str:
        return self.run_name

    @property
    def experiment(self) -> trackio.Run:
        """The active run."""
        if self._run is None:
            with _off_the_console():
                self._run = trackio.init(
                    self.project,
                    name=self.run_name,
                    group=self.group,
                    config=self.settings,
                    resume="allow",
                    embed=False,
                )
        return self._run

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        self.settings |= vars(params) if isinstance(params, Namespace) else params

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        run = self.experiment
        with _off_the_console():
            run.log(metrics, step)

    def save(self) -> None:
        if self._run is not None:
            with _off_the_console():
                self._run.finish()
            if context_vars.current_run.get() is self._run:  # else it is finished again, and printed, at exit
                context_vars.current_run.set(None)
            self._run = None

    def finalize(self, status: str) -> None:
        self.save()


class Trackio(Tracker):
    """Runs of the recipe's project, grouped by the run."""

    def open(self, stage: TrackedStage) -> TrackioLogger:
        return TrackioLogger(stage.recipe, stage.name, stage.run)


@contextmanager
def _off_the_console() -> Iterator[None]:
    """Discard what Trackio prints, which would be in the middle of `--json`."""
    with redirect_stdout(io.StringIO()):
        yield
