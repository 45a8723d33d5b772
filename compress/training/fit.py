"""Fitting a network with Lightning's Trainer, resumable at every epoch."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException

from compress.recipe.schema import Trainer
from compress.training.module import Diverged, Fitting
from compress.training.optim import LOWERED
from compress.utils.atomic import fsync, write_atomic
from compress.utils.console import say, task
from compress.utils.errors import CompressError, first_line
from compress.utils.hashing import file_digest, key_of

CHECKPOINT = "last.ckpt"
DIGESTS = ".sha256"
STEPS = "steps.json"
NOTE_EVERY_S = 5.0
LOWERED_AT_MOST = 5


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: accuracy after each epoch, optimizer steps, images seen, and seconds.

    `lost` counts the images of steps that were taken and lost when the fit was interrupted, as far as it is known: to
    the last note before the interruption. `diverged` has the epoch and the loss of each time that it went back.
    """

    curve: list[dict[str, float]]
    steps: int
    images: int
    wall_s: float
    lost: int = 0
    diverged: tuple[dict[str, Any], ...] = ()


class Followed(Exception):
    """The network is fitted, and another process of the same fit writes it."""


class KeepEachEpoch(Checkpoint):
    """Writes the state after each epoch, aside and renamed, so that a kill loses one epoch at most.

    Its digest lies beside it: a spoilt state is noticed and not gone on from.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.spent_before = 0.0
        self.started = time.monotonic()

    @property
    def spent(self) -> float:
        return self.spent_before + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {"spent": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.spent_before = state_dict["spent"]

    def on_train_epoch_end(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        aside = self.path.with_suffix(".partial")
        trainer.save_checkpoint(aside)
        if trainer.is_global_zero:
            fsync(aside)
            states = [path for path in (aside, self.path) if path.exists()]  # a kill leaves one or the other
            write_atomic(self.path.with_suffix(DIGESTS), "\n".join(map(file_digest, states)))
            aside.replace(self.path)


class CountLost(Callback):
    """Notes every few seconds how far an epoch has come, so that what an interruption has cost is known."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / STEPS
        self.lost = 0
        self.noted = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        try:
            told = json.loads(self.path.read_text())
            if told.pop("sha256") != key_of(**told):
                raise ValueError
            self.lost = int(told["lost"]) + max(0, int(told["steps"]) - trainer.global_step)
        except (OSError, ValueError, KeyError, TypeError):  # the first start, or a note that was cut off
            self.lost = 0
        self._note(trainer)

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if time.monotonic() - self.noted > NOTE_EVERY_S:
            self._note(trainer)

    def on_exception(self, trainer: L.Trainer, *_: Any) -> None:
        if self.path.exists():  # else it had not begun
            self._note(trainer)

    def _note(self, trainer: L.Trainer) -> None:
        self.noted = time.monotonic()
        if trainer.is_global_zero:
            told = {"steps": trainer.global_step, "lost": self.lost}
            write_atomic(self.path, json.dumps({**told, "sha256": key_of(**told)}))


class ShowEpochs(Callback):
    """The live line of a fit: epoch, loss, accuracy on validation, time left."""

    def __init__(self, what: str, epochs: int) -> None:
        self.what, self.epochs = what, epochs

    def on_train_start(self, trainer: L.Trainer, _: L.LightningModule) -> None:
        batches = int(trainer.num_training_batches)
        self.bar = task(f"{self.what}: {self.epochs} epochs", self.epochs * batches)
        self.advance = self.bar.__enter__()
        self.started = time.monotonic()
        self.advance(trainer.current_epoch * batches)

    def on_train_epoch_start(self, *_: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, *_: Any) -> None:
        self.advance()

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if isinstance(module, Fitting):
            images = int(trainer.num_training_batches) * module.step_images
            rate = images / (time.monotonic() - self.started)
            loss, accuracy = module.last_loss, module.curve[-1]["top1"]
            epoch = f"epoch {trainer.current_epoch + 1}, {rate:,.0f} images/s"
            self.advance(0, note=f"{epoch}, loss {loss:.3f}, validation {accuracy:.1%}")

    def teardown(self, *_: Any, **__: Any) -> None:
        if hasattr(self, "bar"):
            self.bar.__exit__(None, None, None)
            del self.bar

    on_exception = teardown  # Lightning then leaves out the other one


@contextmanager
def _of_a_fit() -> Iterator[None]:
    """TF32 and a quiet Lightning, for a fit alone: what is measured has the same bits after one as before."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning.*")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@_of_a_fit()
def fit(module: Fitting, trainer: Trainer, work: Path, what: str, *callbacks: Callback) -> Fitted:
    """Fit `module.network` in place; `work` keeps the state of a killed fit, which the next call goes on from.

    Raises:
        CompressError: the loss diverges, or Lightning refuses the `trainer` section.
        Followed: this process only joined the fit of another one.
    """
    if module.settings.epochs == 0:
        return Fitted([], 0, 0, 0.0)
    work.mkdir(parents=True, exist_ok=True)
    last = work / CHECKPOINT
    lowers = module.settings.on_divergence == "lower"
    first = {name: value.clone() for name, value in module.state_dict().items()} if lowers else {}
    while True:
        keep, count = KeepEachEpoch(last), CountLost(work)
        loop = _loop(module, trainer, work, [*callbacks, keep, count, ShowEpochs(what, module.settings.epochs)])
        resumed = _resumed(last, what, module.settings.epochs)
        try:
            module.network.train()  # Lightning keeps the mode that it finds
            loop.fit(module, ckpt_path=last if resumed else None, weights_only=True)
            break
        except (SystemExit, SIGTERMException) as error:  # Lightning's ways to end when it is stopped
            raise KeyboardInterrupt from error
        except Diverged as error:
            if error.at_once:  # the state after the epoch before was no good one
                last.unlink(missing_ok=True)
            if not lowers or len(module.diverged) == LOWERED_AT_MOST:
                raise CompressError(_diverged(module, error, last)) from error
            module.teardown("fit")
            module.go_back(error)
            if not last.exists():
                module.load_state_dict(first)
            rate = module.settings.lr * LOWERED ** len(module.diverged)
            say(f"  {what}: {error}; from the last good state on, at half the rate: {rate:.3g}")
    if not loop.is_global_zero:
        raise Followed
    module.network.load_state_dict(dict(module.best or module.kept()))
    module.network.eval().cpu()
    steps, images = int(loop.global_step), module.step_images
    spent = round(keep.spent, 3)
    return Fitted(module.curve, steps, steps * images, spent, count.lost * images, tuple(module.diverged))


def _loop(module: Fitting, trainer: Trainer, work: Path, callbacks: list[Callback]) -> L.Trainer:
    try:
        return L.Trainer(
            **trainer.model_dump(),
            max_epochs=module.settings.epochs,
            gradient_clip_val=module.settings.clip,
            callbacks=callbacks,
            default_root_dir=work,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise CompressError(f"the trainer section does not fit this machine: {first_line(error)}") from error


def _resumed(last: Path, what: str, epochs: int) -> bool:
    """Whether there is a state to go on from; a damaged one is removed."""
    if not last.exists():
        return False
    done = _finished_epochs(last)
    if done is None:
        last.unlink()
        say(f"  {what}: the state of the interrupted fit is damaged; it starts again")
        return False
    say(f"  {what}: goes on after epoch {done} of {epochs}")
    return True


def _diverged(module: Fitting, error: Diverged, last: Path) -> str:
    """What a person is told where a fit stops: what was tried, what may help, which state is left."""
    settings, times = module.settings, len(module.diverged)
    lowered = f", and at a rate lowered {times} times still" if times else ""
    others = [] if settings.clip else ["set `clip: 1`"]
    others += [] if settings.on_divergence == "lower" else ["`on_divergence: lower`"]
    advice = " or ".join([f"lower `lr` ({settings.lr:g})", *others])
    kept = (
        f"; the state after epoch {error.epoch - 1} is kept in {last}" if last.exists() else "; no good state is left"
    )
    return f"{error} of {settings.epochs}{lowered}: {advice}, or look at the data{kept}"


def _finished_epochs(checkpoint: Path) -> int | None:
    try:
        if file_digest(checkpoint) not in checkpoint.with_suffix(DIGESTS).read_text().split():
            return None
        return int(torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["epoch"]) + 1
    except Exception:  # whatever is wrong with it, it is no state to go on from
        return None
