"""Logging of fits: events of the run's log, and metrics of its trackers."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback

from compress.training.module import FitModule
from compress.training.trackers import Trackers

LOG_EVERY_N_STEPS = 10


@dataclass(frozen=True)
class FitLoggers:
    """Where the fits of a run are logged."""

    # takes an event with its fields: the run's `log.jsonl`
    log_event: Callable[..., None] = lambda event, **fields: None
    trackers: Trackers = field(default_factory=Trackers)

    def callbacks(self, unit: str) -> list[Callback]:
        """Return the callbacks for a fit of a unit."""
        return [EpochLogger(unit, self.log_event, self.trackers)]


class EpochLogger(Callback):
    """Logs each epoch as an event, and epochs and steps to the trackers."""

    def __init__(self, unit: str, log_event: Callable[..., None], trackers: Trackers) -> None:
        self.unit, self.log_event, self.trackers = unit, log_event, trackers
        self.started = self.seconds = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, _: L.LightningModule, outputs: Any, *__: Any) -> None:
        self.seconds = time.monotonic() - self.started  # without the validation that follows the last batch
        if self.trackers.names and trainer.is_global_zero and trainer.global_step % LOG_EVERY_N_STEPS == 0:
            metrics = {"loss": float(outputs["loss"]), "lr": float(trainer.optimizers[0].param_groups[0]["lr"])}
            self.trackers.log_metrics(self.unit, metrics, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(module, FitModule):
            return
        metrics = {
            "mean_loss": round(module.last_loss, 6),
            "validation_top1": module.state.curve[-1]["top1"],
            "images_per_s": round(int(trainer.num_training_batches) * module.step_images / self.seconds, 1),
        }
        self.log_event("epoch", unit=self.unit, epoch=trainer.current_epoch + 1, **metrics)
        self.trackers.log_metrics(self.unit, metrics, trainer.global_step)

    def teardown(self, trainer: L.Trainer, *_: Any, **__: Any) -> None:
        if trainer.is_global_zero:
            self.trackers.end_fit(self.unit)
