"""Experiment trackers of a run: metrics of fits, results of variants, settings of stages. Imports no torch."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compress.registry import TRACKERS, load_entry
from compress.training.trackers.tracker import Setting, TrackedStage, Tracker
from compress.utils.console import say
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.messages import unknown

MAX_KEY = 250  # characters of a setting's key, MLflow's limit


def check_trackers(names: Sequence[str]) -> None:
    """Check that trackers exist and that their packages can be imported.

    Raises:
        UsageError: There is no tracker of this name.
        CompressError: Its package is not installed, or is broken.
    """
    for name in names:
        if name not in TRACKERS:
            raise UsageError(f"--log: {unknown('logger', name, TRACKERS)}")
    for name in names:
        entry = TRACKERS[name]
        if entry.modules and not any(map(importlib.util.find_spec, entry.modules)):
            raise CompressError(f"--log {name}: {entry.modules[0]} is not installed: {entry.install}")
        try:
            load_entry(entry.where)
        except Exception as error:  # whatever a package of another version raises when it is imported
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise CompressError(f"--log {name}: it cannot be imported ({reason}): {entry.install}") from error


@dataclass(frozen=True)
class Trackers:
    """Where the stages of a run are tracked.

    A tracker that fails, as on a lost connection, is warned of once and left out from then on: it must not end the run.

    Attributes:
        names: Names of `compress.registry.TRACKERS`.
        folder: Local files of the trackers, `logs/` of the run's folder.
        recipe: The resolved recipe as plain data.
        run: Name of the run's folder.
        on_failure: Called with a tracker's name and why it failed.
    """

    names: tuple[str, ...] = ()
    folder: Path = Path()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    run: str = ""
    on_failure: Callable[[str, str], None] = lambda name, reason: None
    _open: dict[tuple[str, str], Tracker] = field(default_factory=dict)  # by stage and name
    _failed: set[str] = field(default_factory=set)

    def log_metrics(self, stage: str, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of a stage's fit after an optimizer step."""
        self._each(stage, lambda tracker: tracker.log_metrics(metrics, step))

    def end_fit(self, stage: str) -> None:
        """Write what is buffered of a stage's fit."""
        self._each(stage, lambda tracker: tracker.end_fit())

    def log_results(self, stage: str, metrics: Mapping[str, float]) -> None:
        """Log what was measured of a variant, whether it was made in this run or before."""
        self._each(stage, lambda tracker: tracker.log_results(metrics))

    def close(self, success: bool) -> None:
        """End all runs of the trackers."""
        for stage, name in list(self._open):
            tracker = self._open.pop((stage, name))
            if name not in self._failed:
                self._guarded(name, lambda tracker=tracker: tracker.close(success))  # type: ignore[misc]

    def _each(self, stage: str, call: Callable[[Tracker], None]) -> None:
        for name in self.names:
            if name not in self._failed:
                self._guarded(name, lambda name=name: call(self._tracker(stage, name)))  # type: ignore[misc]

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # each tracker and its client for the network raise kinds of their own
            self._failed.add(name)
            reason = f"{type(error).__name__}: {first_line(error)}"
            say(f"warning: --log {name} failed, and gets no more of this run ({reason})")
            self.on_failure(name, reason)

    def _tracker(self, stage: str, name: str) -> Tracker:
        if (stage, name) not in self._open:
            made: type[Tracker] = load_entry(TRACKERS[name].where)
            project = str(self.recipe.get("name", ""))
            tracked = TrackedStage(project, self.run, stage, self.folder, stage_settings(self.recipe, stage))
            self._open[stage, name] = made(tracked)
        return self._open[stage, name]


def stage_settings(recipe: Mapping[str, Any], stage: str) -> dict[str, Setting]:
    """Return the settings that a stage was made with by dotted key: its own as `stage.lr`, the recipe's as `data.path`.

    Settings of other stages are left out. Lists are JSON; keys have the characters that all trackers take.
    """
    own: Mapping[str, Any] = next((each for each in recipe.get("stages", ()) if each["id"] == stage), {})
    common = {key: value for key, value in recipe.items() if key != "stages"}
    return dict(_flat({**common, "stage": own}, ""))


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Setting]]:
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}.")
        else:
            plain = value if isinstance(value, str | int | float | bool | None) else json.dumps(value)
            yield re.sub(r"[^\w\-. /]", "_", path)[:MAX_KEY], plain
