"""Progress bars, events and loggers of fits."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import timm
import torch
from rich.console import Console

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.pipeline.cost_model import PlanRow
from compress.pipeline.eta import TimeLeft
from compress.recipe.data import Views
from compress.recipe.fit import Fit
from compress.recipe.schema import Trainer
from compress.training.callbacks import FitProgress
from compress.training.fit import fit
from compress.training.loggers import EpochLogger, FitLoggers
from compress.training.module import FitModule
from compress.training.state import FitState
from compress.training.trackers import Trackers
from compress.utils import console as progress


def noise(count: int) -> Split:
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8), np.arange(count) % 2)


def test_every_epoch_is_logged_as_an_event_and_to_the_loggers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=2)
    preprocess = Preprocess(32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    settings = Fit(epochs=3, batch=16, lr=0.01)
    module = FitModule(network, preprocess, [noise(64)], noise(8), Views(), settings, None, seed=0, image_macs=1)
    events: list[dict[str, Any]] = []
    trackers = Trackers(("csv",), tmp_path)
    loggers = FitLoggers(lambda event, **fields: events.append({"event": event, **fields}), trackers)
    fitted = fit(module, Trainer(accelerator="cpu"), tmp_path / "work", "tiny", *loggers.callbacks("tiny"))
    assert [(entry["event"], entry["unit"], entry["epoch"]) for entry in events] == [
        ("epoch", "tiny", n) for n in (1, 2, 3)
    ]
    assert [entry["validation_top1"] for entry in events] == [point["top1"] for point in fitted.curve]
    assert all(entry["images_per_s"] > 0 and entry["mean_loss"] > 0 for entry in events)
    rows = list(csv.DictReader((tmp_path / "tiny" / "csv" / "metrics.csv").open()))
    means = [float(row["mean_loss"]) for row in rows if row["mean_loss"]]
    assert means == [entry["mean_loss"] for entry in events]
    steps = [row for row in rows if row["loss"]]
    assert [row["step"] for row in steps] == ["10"] and float(steps[0]["lr"]) > 0


def test_the_estimate_follows_the_pace_so_far() -> None:
    left = TimeLeft([PlanRow(unit, "train", False, "", 0, 10.0 * (row + 1)) for row, unit in enumerate("abc")])
    assert left.after("a") == 50
    left.done("a", 20)  # twice as long as expected
    assert left.after("b") == 60 and left.after("c") == 40
    left.drop("c")  # it failed, or another worker made it
    assert left.after("a") == 40


def test_without_a_terminal_progress_is_a_line_every_30_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, soft_wrap=True, highlight=False))
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.task("work", 100) as advance:
        for step in range(100):
            clock[0] += 1.0
            advance(note=f"step {step}")
    assert out.getvalue().splitlines() == [
        "  work: 30 of 100, about 70 s left, step 29",
        "  work: 60 of 100, about 40 s left, step 59",
        "  work: 90 of 100, about 10 s left, step 89",
    ]


def test_what_was_done_before_is_not_taken_for_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = [0.0], io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, soft_wrap=True, highlight=False))
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.task("work", 100, 60) as advance:
        for _ in range(30):
            clock[0] += 1.0
            advance()
    assert out.getvalue().splitlines() == ["  work: 90 of 100, about 10 s left"]


def test_images_per_second_are_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, notes = [0.0], list[str]()
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    events: list[dict[str, Any]] = []
    state = FitState(curve=[{"macs": 1.0, "top1": 0.5}])
    module = Mock(spec=FitModule, step_images=16, last_loss=0.5, state=state)
    trainer: Any = SimpleNamespace(is_global_zero=True, num_training_batches=1, current_epoch=0, global_step=1)
    bar = FitProgress("tiny", 1)
    bar.advance, bar.reached = lambda steps, note: notes.append(note), ""
    for callback in (EpochLogger("tiny", lambda event, **fields: events.append(fields), Trackers()), bar):
        callback.on_train_epoch_start(trainer, module)
        clock[0] += 2.0
        callback.on_train_batch_end(trainer, module, {}, {}, 0)
        clock[0] += 6.0  # of validation
        callback.on_train_epoch_end(trainer, module)
    assert events[0]["images_per_s"] == 8 and all("8 images/s" in note for note in notes) and len(notes) == 2


def test_on_a_terminal_the_bar_shows_the_time_of_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # rich draws no bar on a dumb terminal
    out = io.StringIO()
    monkeypatch.setattr(progress, "console", Console(file=out, force_terminal=True, width=80))
    monkeypatch.setattr(progress, "_after", 120.0)
    with progress.task("work [b]", 2) as advance:
        advance(note="epoch 1, loss [0.5]")
        advance()
    shown = out.getvalue()
    assert "work [b]" in shown and "loss [0.5]" in shown, "nothing is read as markup"
    assert "all stages 2.0 min" in shown and "2/2" in shown
