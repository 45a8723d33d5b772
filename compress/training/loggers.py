"""What looks on while a network is fitted: the run's log, and loggers for TensorBoard or as CSV."""

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

from compress.training.module import Fitting
from compress.utils.errors import CompressError, UsageError

EVERY = 10  # steps between two losses that are logged
LOGGERS: dict[str, type[CSVLogger] | type[TensorBoardLogger]] = {"csv": CSVLogger, "tensorboard": TensorBoardLogger}


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers that are not there.

    Raises:
        UsageError: there is no logger of this name.
        CompressError: its package is not installed.
    """
    for name in names:
        if name not in LOGGERS:
            raise UsageError(f"--log {name}: there is no such logger; there are {', '.join(LOGGERS)}")
    if "tensorboard" in names and not any(map(importlib.util.find_spec, ("tensorboard", "tensorboardX"))):
        raise CompressError("--log tensorboard: tensorboard is not installed: pip install tensorboard")


@dataclass(frozen=True)
class Watch:
    """Who is told of the fits of a run.

    Attributes:
        note: Takes an event with its fields: the run's `log.jsonl`.
        loggers: Names out of `LOGGERS`.
        folder: Where they write, each fit into a folder of its own.
    """

    note: Callable[..., None] = lambda event, **fields: None
    loggers: tuple[str, ...] = ()
    folder: Path = Path()

    def callbacks(self, unit: str) -> list[Callback]:
        """Callbacks for the fit of a unit."""
        made = [LOGGERS[name](self.folder, name=unit, version=name) for name in self.loggers]
        return [EpochLogger(unit, self.note, made)]


class EpochLogger(Callback):
    """Tells of each epoch, and loggers of the steps too."""

    def __init__(self, unit: str, note: Callable[..., None], loggers: Sequence[Logger]) -> None:
        self.unit, self.note, self.loggers = unit, note, loggers
        self.started = 0.0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, _: L.LightningModule, outputs: Any, *__: Any) -> None:
        if self.loggers and trainer.is_global_zero and trainer.global_step % EVERY == 0:
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            self._log({"loss": float(outputs["loss"]), "lr": rate}, trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(module, Fitting):
            return
        seconds = time.monotonic() - self.started
        told = {
            "mean_loss": round(module.last_loss, 6),
            "validation_top1": module.curve[-1]["top1"],
            "images_per_s": round(int(trainer.num_training_batches) * module.step_images / seconds, 1),
        }
        self.note("epoch", unit=self.unit, epoch=trainer.current_epoch + 1, **told)
        self._log(told, trainer.global_step)

    def teardown(self, *_: Any, **__: Any) -> None:
        for logger in self.loggers:
            logger.finalize("success")

    def _log(self, values: dict[str, float], step: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(values, step)
