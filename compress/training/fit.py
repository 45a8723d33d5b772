"""Fit a network with Lightning's Trainer, resumable after every epoch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.fx import GraphModule

from compress.measurement.batch_size import free_memory
from compress.measurement.device import CPU, choose_device, describe, move, numerics
from compress.models.embedding import encoder_of
from compress.models.restore import restore_weights
from compress.recipe.schema import Trainer
from compress.training.accelerator import lightning_device, reproducible
from compress.training.callbacks import EpochCheckpoint, FitProgress, LostStepCounter
from compress.training.checkpoint import HashedCheckpointIO, SavedEpoch, read_checkpoint
from compress.training.formats import Format, FormatChooser, choose_for_steps
from compress.training.module import FitModule
from compress.training.optim import DIVERGENCE_LR_FACTOR
from compress.training.shared_memory import worker_advice
from compress.training.state import Diverged, DivergedEpoch, EpochPoint
from compress.utils.console import say
from compress.utils.errors import CompressError, first_line
from compress.utils.machine_faults import is_exhausted, is_out_of_memory

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
        precision: Number format and memory layout of the steps, as `Format` writes them; None without steps.
    """

    curve: list[EpochPoint]
    steps: int
    images: int
    wall_s: float
    lost_images: int = 0
    diverged: tuple[DivergedEpoch, ...] = ()
    precision: str | None = None


class FollowerFinished(Exception):
    """Raised on all ranks but the first when the fit is done; the first one stores the network."""


@contextmanager
def _fit_numerics(trainer: Trainer) -> Iterator[None]:
    """Compute as the recipe allows, and silence Lightning during a fit."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning.*")
    exact = trainer.deterministic
    with numerics(tf32=trainer.tf32, autotune=trainer.benchmark, deterministic=exact), reproducible(exact):
        yield


def fit(
    module: FitModule,
    trainer: Trainer,
    folder: Path,
    label: str,
    *callbacks: Callback,
    chooser: FormatChooser | None = None,
) -> FitResult:
    """Fit `module.network` in place, or resume the fit whose checkpoint is in `folder`.

    Args:
        module: The network with its images and settings.
        trainer: What Lightning's Trainer is given.
        folder: Keeps the checkpoint of a killed fit.
        label: Name of the fit in messages.
        callbacks: Called besides our own.
        chooser: Chooses the format for `precision: auto`; default: one that keeps no timings.

    Raises:
        CompressError: The loss diverges, Lightning refuses the `trainer` section, a step does not fit into the memory
            of a GPU, `deterministic` asks for what an operator does not have, `compile` fails, or the processes that
            decode images lack memory.
        UsageError: The device of the `trainer` section is not here.
        FollowerFinished: This process only joined the fit of another one.
    """
    if module.settings.epochs == 0:
        return FitResult([], 0, 0, 0.0)
    device = choose_device(trainer)
    with _fit_numerics(trainer):
        try:
            return _fit(module, trainer, device, folder, label, callbacks, chooser)
        except RuntimeError as error:
            advice = _step_advice(module, trainer, device, error)
            if advice is None:
                raise
            raise CompressError(advice) from error


def _fit(
    module: FitModule,
    trainer: Trainer,
    device: torch.device,
    folder: Path,
    label: str,
    callbacks: Sequence[Callback],
    chooser: FormatChooser | None,
) -> FitResult:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    lowers = module.settings.on_divergence == "lower"
    initial = {name: value.clone() for name, value in module.state_dict().items()} if lowers else {}
    saved = _resumable(path, label, module.settings.epochs)
    module.format = _format(module, trainer, device, label, saved, chooser or FormatChooser())
    if trainer.precision == "auto":
        module.network.to(memory_format=module.format.memory_format)
    while True:
        checkpoint, lost = EpochCheckpoint(path, saved.digest if saved else None), LostStepCounter(folder)
        ours = [checkpoint, lost, FitProgress(label, module.settings.epochs)]
        loop = _trainer(module, trainer, device, folder, [*callbacks, *ours])
        try:
            module.network.train()  # Lightning keeps the mode that it finds
            loop.fit(module, ckpt_path=path if saved else None, weights_only=True)
            break
        except (SystemExit, SIGTERMException) as error:  # Lightning's ways to end when it is stopped
            raise KeyboardInterrupt from error
        except Diverged as error:
            if error.at_once:  # the state after the epoch before was no good one
                path.unlink(missing_ok=True)
            if not lowers or len(module.state.diverged) == MAX_RESTARTS:
                raise CompressError(_advice(module, error, path)) from error
            _go_back(module, error, path, label, initial)
            saved = _resumable(path, label, module.settings.epochs)
    if not loop.is_global_zero:
        raise FollowerFinished
    restore_weights(module.network, module.state.best or module.final_weights())
    module.network.train()  # which drops what it has cached of earlier weights
    move(module.network.eval(), CPU)
    steps, images = int(loop.global_step), module.step_images
    seconds, state = round(checkpoint.spent, 3), module.state
    diverged = tuple(state.diverged)
    return FitResult(state.curve, steps, steps * images, seconds, lost.lost * images, diverged, str(module.format))


def _go_back(module: FitModule, error: Diverged, path: Path, label: str, initial: dict[str, torch.Tensor]) -> None:
    """Make a diverged fit start again at a lower learning rate: from its checkpoint, or from the initial weights."""
    module.teardown("fit")
    module.go_back(error)
    if not path.exists():
        restore_weights(module, initial)
    rate = module.settings.lr * DIVERGENCE_LR_FACTOR ** len(module.state.diverged)
    say(f"  {label}: {error}; resumes from the last good state at half the learning rate: {rate:.3g}")


def _trainer(
    module: FitModule, trainer: Trainer, device: torch.device, folder: Path, callbacks: list[Callback]
) -> L.Trainer:
    try:
        return L.Trainer(
            **trainer.model_dump(include={"devices", "num_nodes", "strategy"}) | lightning_device(device),
            precision=module.format.precision,
            plugins=[HashedCheckpointIO()],
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
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise CompressError(f"the trainer section does not fit this machine: {first_line(error)}") from error


def _resumable(path: Path, label: str, epochs: int) -> SavedEpoch | None:
    """Return the checkpoint to resume from, None without one; a damaged one is removed."""
    if not path.exists():
        return None
    saved = read_checkpoint(path)
    if saved is None:
        path.unlink()
        say(f"  {label}: the checkpoint of the interrupted fit is damaged; it starts again")
        return None
    say(f"  {label}: resumes after epoch {saved.epochs} of {epochs}")
    return saved


def _format(
    module: FitModule,
    trainer: Trainer,
    device: torch.device,
    label: str,
    saved: SavedEpoch | None,
    chooser: FormatChooser,
) -> Format:
    """Return the format of a fit: the one that it began with if it is resumed, so that it ends with the same bits."""
    default = Format(channels_last=device.type == "cuda")  # on a CPU contiguous weights are the faster ones
    if trainer.precision != "auto":
        return replace(default, precision=trainer.precision)
    if saved and saved.format:
        return saved.format
    if trainer.several_processes or isinstance(
        encoder_of(module.network), GraphModule
    ):  # processes would have to agree
        return default
    side = module.preprocess.resolution
    chosen = choose_for_steps(
        chooser, module.network, side, module.step_images, device, label, tf32=trainer.tf32
    ).format
    return replace(chosen, matmul=False) if module.settings.compile else chosen


def _step_advice(module: FitModule, trainer: Trainer, device: torch.device, error: RuntimeError) -> str | None:
    """Return what to change where a step cannot be done as the recipe says; None for another error."""
    if device.type != "cpu" and is_out_of_memory(error):
        free_memory()
        settings = module.settings
        return (
            f"a step of {module.step_images} images does not fit into the memory of {describe(device)}; lower `batch` "
            f"({settings.batch}) and `lr` ({settings.lr:g}) by the same factor, and rerun to resume"
        )
    if trainer.deterministic and "deterministic" in str(error):
        return f"trainer.deterministic: {first_line(error)}; set it to false, or choose another network"
    if module.settings.compile and _is_of_compiler(error) and not is_exhausted(error):
        return f"torch.compile fails here ({first_line(error)}); remove `compile: true`"
    return worker_advice(error)


def _is_of_compiler(error: RuntimeError) -> bool:
    """Return whether torch.compile, or the compiler that it calls, has raised an error."""
    return type(error).__module__.startswith(("torch._dynamo", "torch._inductor"))


def _advice(module: FitModule, error: Diverged, path: Path) -> str:
    """Return the message of a fit that stops: what was tried, what may help, which checkpoint is left."""
    settings, times = module.settings, len(module.state.diverged)
    lowered = f", after the learning rate was lowered {times} times" if times else ""
    others = [] if settings.clip else ["set `clip: 1`"]
    others += [] if settings.on_divergence == "lower" else ["`on_divergence: lower`"]
    advice = " or ".join([f"lower `lr` ({settings.lr:g})", *others])
    kept = f"the checkpoint after epoch {error.epoch - 1} is {path}" if path.exists() else "no good checkpoint is left"
    return f"{error} of {settings.epochs}{lowered} ({kept}): {advice}, or check the data"
