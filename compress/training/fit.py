"""Fit a network with Lightning's Trainer, resumable after every epoch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException

from compress.recipe.schema import Trainer
from compress.training.callbacks import DIGESTS, EpochCheckpoint, FitProgress, LostStepCounter
from compress.training.module import FitModule
from compress.training.optim import DIVERGENCE_LR_FACTOR
from compress.training.state import Diverged, DivergedEpoch, EpochPoint
from compress.utils.console import say
from compress.utils.errors import CompressError, first_line
from compress.utils.hashing import file_digest

CHECKPOINT = "last.ckpt"
MAX_RESTARTS = 5  # after divergence


@dataclass(frozen=True)
class FitResult:
    """Record of a fit: everything but the weights.

    Attributes:
        curve: MACs and accuracy after each epoch.
        steps: Optimizer steps.
        images: Images seen.
        wall_s: Seconds.
        lost_images: Images of steps that interruptions have undone, as far as they were recorded.
        diverged: Epoch and loss of each time that the fit went back to its last good state.
    """

    curve: list[EpochPoint]
    steps: int
    images: int
    wall_s: float
    lost_images: int = 0
    diverged: tuple[DivergedEpoch, ...] = ()


class FollowerFinished(Exception):
    """Raised on all ranks but the first when the fit is done; the first one stores the network."""


@contextmanager
def _fit_numerics() -> Iterator[None]:
    """Allow TF32 and silence Lightning during a fit; measurements afterwards have the same bits as before."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning.*")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@_fit_numerics()
def fit(module: FitModule, trainer: Trainer, folder: Path, label: str, *callbacks: Callback) -> FitResult:
    """Fit `module.network` in place, or resume the fit whose checkpoint is in `folder`.

    Args:
        module: The network with its images and settings.
        trainer: What Lightning's Trainer is given.
        folder: Keeps the checkpoint of a killed fit.
        label: Name of the fit in messages.
        callbacks: Called besides our own.

    Raises:
        CompressError: The loss diverges, or Lightning refuses the `trainer` section.
        FollowerFinished: This process only joined the fit of another one.
    """
    if module.settings.epochs == 0:
        return FitResult([], 0, 0, 0.0)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    lowers = module.settings.on_divergence == "lower"
    initial = {name: value.clone() for name, value in module.state_dict().items()} if lowers else {}
    while True:
        checkpoint, lost = EpochCheckpoint(path), LostStepCounter(folder)
        ours = [checkpoint, lost, FitProgress(label, module.settings.epochs)]
        loop = _trainer(module, trainer, folder, [*callbacks, *ours])
        resumed = _can_resume(path, label, module.settings.epochs)
        try:
            module.network.train()  # Lightning keeps the mode that it finds
            loop.fit(module, ckpt_path=path if resumed else None, weights_only=True)
            break
        except (SystemExit, SIGTERMException) as error:  # Lightning's ways to end when it is stopped
            raise KeyboardInterrupt from error
        except Diverged as error:
            if error.at_once:  # the state after the epoch before was no good one
                path.unlink(missing_ok=True)
            if not lowers or len(module.state.diverged) == MAX_RESTARTS:
                raise CompressError(_advice(module, error, path)) from error
            _go_back(module, error, path, label, initial)
    if not loop.is_global_zero:
        raise FollowerFinished
    module.network.load_state_dict(dict(module.state.best or module.final_weights()))
    module.network.eval().cpu()
    steps, images = int(loop.global_step), module.step_images
    seconds, state = round(checkpoint.spent, 3), module.state
    return FitResult(state.curve, steps, steps * images, seconds, lost.lost * images, tuple(state.diverged))


def _go_back(module: FitModule, error: Diverged, path: Path, label: str, initial: dict[str, torch.Tensor]) -> None:
    """Make a diverged fit start again at a lower learning rate: from its checkpoint, or from the initial weights."""
    module.teardown("fit")
    module.go_back(error)
    if not path.exists():
        module.load_state_dict(initial)
    rate = module.settings.lr * DIVERGENCE_LR_FACTOR ** len(module.state.diverged)
    say(f"  {label}: {error}; resumes from the last good state at half the learning rate: {rate:.3g}")


def _trainer(module: FitModule, trainer: Trainer, folder: Path, callbacks: list[Callback]) -> L.Trainer:
    try:
        return L.Trainer(
            **trainer.model_dump(exclude={"precision"}),
            precision="32-true" if trainer.precision == "auto" else trainer.precision,
            max_epochs=module.settings.epochs,
            gradient_clip_val=module.settings.clip,
            callbacks=callbacks,
            default_root_dir=folder,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise CompressError(f"the trainer section does not fit this machine: {first_line(error)}") from error


def _can_resume(path: Path, label: str, epochs: int) -> bool:
    """Return whether there is a checkpoint to resume from; a damaged one is removed."""
    if not path.exists():
        return False
    done = _completed_epochs(path)
    if done is None:
        path.unlink()
        say(f"  {label}: the checkpoint of the interrupted fit is damaged; it starts again")
        return False
    say(f"  {label}: resumes after epoch {done} of {epochs}")
    return True


def _advice(module: FitModule, error: Diverged, path: Path) -> str:
    """Return the message of a fit that stops: what was tried, what may help, which checkpoint is left."""
    settings, times = module.settings, len(module.state.diverged)
    lowered = f", after the learning rate was lowered {times} times" if times else ""
    others = [] if settings.clip else ["set `clip: 1`"]
    others += [] if settings.on_divergence == "lower" else ["`on_divergence: lower`"]
    advice = " or ".join([f"lower `lr` ({settings.lr:g})", *others])
    kept = f"the checkpoint after epoch {error.epoch - 1} is {path}" if path.exists() else "no good checkpoint is left"
    return f"{error} of {settings.epochs}{lowered} ({kept}): {advice}, or check the data"


def _completed_epochs(path: Path) -> int | None:
    try:
        if file_digest(path) not in path.with_suffix(DIGESTS).read_text().split():
            return None
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["epoch"]) + 1
    except Exception:  # whatever is wrong with it, it cannot be resumed from
        return None
