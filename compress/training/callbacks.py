"""Callbacks of every fit: its checkpoint, the count of lost steps, and the progress bar."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.pytorch.callbacks import Callback, Checkpoint

from compress.training.checkpoint import DIGESTS, HashedCheckpointIO
from compress.training.module import FitModule
from compress.utils.atomic import write_atomic
from compress.utils.console import task
from compress.utils.json_cache import seal, unseal

STEPS = "steps.json"
NOTE_EVERY_S = 5.0


class EpochCheckpoint(Checkpoint):
    """Saves the state after each epoch, aside and renamed, so that a kill costs one epoch at most.

    Its digest is stored beside it, so that a damaged checkpoint is detected and not resumed from.

    Args:
        path: The checkpoint.
        digest: Digest of the file that is there already, if there is one.
    """

    def __init__(self, path: Path, digest: str | None = None) -> None:
        self.path = path
        self.digests = [digest] if digest else []
        self.spent_before = 0.0
        self.started = time.monotonic()

    @property
    def spent(self) -> float:
        """Seconds of the fit until now, those before a resumption included."""
        return self.spent_before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, float]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self.spent_before = state_dict["spent"]

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        aside = self.path.with_suffix(".partial")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            written = trainer.strategy.checkpoint_io
            assert isinstance(written, HashedCheckpointIO)
            self.digests = [written.digest, *self.digests[:1]]  # a kill leaves the new file or the last one
            write_atomic(self.path.with_suffix(DIGESTS), "\n".join(self.digests))
            aside.replace(self.path)


class LostStepCounter(Callback):
    """Records the step every few seconds, so that the cost of an interruption is known."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STEPS
        self.steps, self.lost = _recorded(self.path)  # a fit that was killed after its last epoch trains no further
        self.recorded_at = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        self.lost += max(0, self.steps - trainer.global_step)
        self._record(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if time.monotonic() - self.recorded_at > NOTE_EVERY_S:
            self._record(trainer)

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        if self.path.exists():  # else training had not started
            self._record(trainer)

    def _record(self, trainer: L.Trainer) -> None:
        self.recorded_at = time.monotonic()
        if trainer.is_global_zero:
            write_atomic(self.path, seal({"steps": trainer.global_step, "lost": self.lost}))


def _recorded(path: Path) -> tuple[int, int]:
    """Return the steps of a fit until it was interrupted, and how many were lost before."""
    try:
        record = unseal(path.read_text())
        return int(record["steps"]), int(record["lost"])
    except (OSError, ValueError, KeyError, TypeError):  # the first start, or a record that was cut off
        return 0, 0


class FitProgress(Callback):
    """The progress bar of a fit: epoch, loss, validation accuracy, time left."""

    def __init__(self, label: str, epochs: int) -> None:
        self.label, self.epochs = label, epochs

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        done = trainer.current_epoch * batches
        self.bar = task(f"{self.label}: {self.epochs} epochs", self.epochs * batches, done)
        self.advance = self.bar.__enter__()
        self.started, self.reached = time.monotonic(), ""

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        self.seconds = time.monotonic() - self.started  # without the validation that follows the last batch
        self._advance(1, trainer, module, batch_idx + 1)

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if isinstance(module, FitModule):
            self.reached = f", loss {module.last_loss:.3f}, validation {module.state.curve[-1]['top1']:.1%}"
        self._advance(0, trainer, module, int(trainer.num_training_batches))

    def _advance(self, steps: int, trainer: L.Trainer, module: L.LightningModule, batches: int) -> None:
        """Show steps, the speed in this epoch until now, and what the epoch before has reached."""
        images = batches * module.step_images if isinstance(module, FitModule) else 0
        rate = images / self.seconds
        self.advance(steps, note=f"epoch {trainer.current_epoch + 1}, {rate:,.0f} images/s{self.reached}")

    def teardown(self, *_: Any, **__: Any) -> None:
        if hasattr(self, "bar"):
            self.bar.__exit__(None, None, None)
            del self.bar

    on_exception = teardown  # after an exception Lightning does not call teardown
