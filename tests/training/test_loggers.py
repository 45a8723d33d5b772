"""Progress bars, events and loggers of fits."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

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
from compress.training.fit import fit
from compress.training.loggers import FitLoggers
from compress.training.module import FitModule
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
