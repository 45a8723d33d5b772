"""Logging of fits: events of the run's log, and Lightning's loggers for TensorBoard and CSV."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from compress.training.module import FitModule
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import unknown

LOG_EVERY_N_STEPS = 10
LOGGERS: dict[str, type[CSVLogger] | type[TensorBoardLogger]] = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}


def check_loggers(names: Sequence[str]) -> None:
    """Check that loggers exist and can be used.

    Raises:
        UsageError: There is no logger of this name.
        CompressError: Its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise UsageError(f"--log: {unknown('logger', name, LOGGERS)}")
    if "tensorboard" in names and not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        raise CompressError("--log tensorboard: tensorboard is not installed: pip install tensorboard")


@dataclass(frozen=True)
class FitLoggers:
    """Where the fits of a run are logged."""

    # takes an event with its fields: the run's `log.jsonl`
    log_event: Callable[..., None] = lambda event, **fields: None
    loggers: tuple[str, ...] = ()  # names from `LOGGERS`
    folder: Path = Path()  # where the loggers write, each fit into a folder of its own

    def callbacks(self, unit: str) -> list[Callback]:
        """Return the callbacks for the fit of a unit."""
        loggers = [LOGGERS[name](self.folder, name=unit, version=name) for name in self.loggers]
        return [EpochLogger(unit, self.log_event, loggers)]


class EpochLogger(Callback):
    """Logs each epoch as an event, and epochs and steps to Lightning's loggers."""

    def __init__(self, unit: str, log_event: Callable[..., None], loggers: Sequence[Logger]) -> None:
        self.unit, self.log_event, self.loggers = unit, log_event, loggers
        self.started = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, _: L.LightningModule, outputs: Any, *__: Any) -> None:
        if self.loggers and trainer.is_global_zero and trainer.global_step % LOG_EVERY_N_STEPS == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._log_metrics({"loss": float(outputs["loss"]), "lr": rate}, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(module, FitModule):
            return
        seconds = time.monotonic() - self.started
        metrics = {
            "mean_loss": round(module.last_loss, 6),
            "validation_top1": module.state.curve[-1]["top1"],
            "images_per_s": round(int(trainer.num_training_batches) * module.step_images / seconds, 1),
        }
        self.log_event("epoch", unit=self.unit, epoch=trainer.current_epoch + 1, **metrics)
        self._log_metrics(metrics, trainer.global_step)

    def teardown(self, *_: Any, **__: Any) -> None:
        for logger in self.loggers:
            logger.finalize("success")

    def _log_metrics(self, metrics: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(metrics, step)
