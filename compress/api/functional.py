"""Stages of a recipe as functions, for your own networks, images and loops.

Images are uint8 `[n, 3, h, w]`. Settings have the same names and defaults as in a recipe.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement import cuda
from compress.measurement.compute import bit_operations, count, evaluating, macs, parameters, training_macs
from compress.measurement.device import device_of
from compress.measurement.latency import TAIL_ROUNDS, TAIL_TIMINGS, Timer, measure_interleaved, summary
from compress.models.heads import layers_named
from compress.models.teachers import LoadedTeacher
from compress.pruning.prunable import describe_left, find_prunable
from compress.pruning.search import prune_channels
from compress.quantization.choice import Demands, first_able, of_variants
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize as quantize_post_training
from compress.recipe.base import Section
from compress.recipe.channels import Channels
from compress.recipe.data import PLAIN, Views
from compress.recipe.fit import Distillation
from compress.recipe.quantizer_name import AUTO
from compress.recipe.schema import Trainer
from compress.training.fit import FitResult, fit
from compress.training.freeze import flags_restored, freezing
from compress.training.module import FitModule
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.errors import CompressWarning, UsageError
from compress.utils.messages import unknown
from compress.utils.system import limit_threads

S = TypeVar("S", bound=Section)
Array = NDArray[Any] | Tensor
Labelled = tuple[Array, Array | None]
"""Images uint8 `[n, 3, h, w]`, and labels int64 `[n]`, -1 for an image without one; None if no image has one."""


@dataclass(frozen=True)
class LatencyMeasurement:
    """Latency of one network at one batch size, in eager PyTorch in this process.

    Attributes:
        p99_ms: Of single timings; None with fewer than 300: below 30 rounds, or above 20 ms.
        ratio_to_reference: How many times faster than the first network, with its 95% interval in `ratio_ci95`.
        peak_memory_bytes: Most memory that tensors took on a CUDA device, with the weights of all networks; else None.
    """

    batch: int
    p50_ms: float
    p99_ms: float | None
    ratio_to_reference: float | None
    ratio_ci95: tuple[float, float] | None
    peak_memory_bytes: int | None = None


@dataclass(frozen=True)
class NetworkCost:
    """Cost of a float network on this machine; `cost["macs"]` is `cost.macs`.

    Attributes:
        macs: Multiply-accumulates of the forward pass of one image.
        bit_operations: MACs weighted by the bits of both factors.
        params: Parameters, shared ones once.
        latency: One entry per batch size.
    """

    macs: int
    bit_operations: int
    params: int
    latency: tuple[LatencyMeasurement, ...]

    def __getitem__(self, name: str) -> Any:
        return getattr(self, name)


def distill(
    student: nn.Module,
    teacher: nn.Module,
    data: Labelled,
    validation: Labelled,
    *,
    preprocess: Preprocess,
    teacher_preprocess: Preprocess | None = None,
    views: Views | None = None,
    seed: int = 0,
    trainer: Mapping[str, object] | None = None,
    **settings: Any,
) -> FitResult:
    """Train a student, in place, on the outputs of a teacher for augmented views of images.

    Args:
        student: Maps pixels `[b, 3, r, r]` to logits `[b, classes]`.
        teacher: The same for its own resolution; it is not trained.
        data: Training images; those without a label are learnt from the teacher alone.
        validation: Labelled images to evaluate on after each epoch.
        preprocess: Preprocessing of the student.
        teacher_preprocess: Preprocessing of the teacher; default: the student's.
        views: Augmentation; default: as in a recipe.
        seed: Seed of image order and views.
        trainer: Settings of a recipe's `trainer` section, e.g. `{"accelerator": "cuda"}`.
        settings: Settings of a `distill` stage: `epochs`, `lr`, `losses={"ce": 1, "kd": 1}`, ...

    Returns:
        The accuracy after each epoch with the MACs spent until then, and the steps, images and seconds.

    Raises:
        UsageError: a setting is wrong, also for this student, the images have the wrong shape or type, a label is none
            of the student's outputs, or a validation image has none.
        CompressError: the training has diverged.
    """
    limit_threads()
    chosen = _settings(Distillation, {**settings, "teacher": "live"})
    images, held_out = split_of(data), split_of(validation)
    require_labels(held_out, "validation")
    _refuse_labels_beyond(student, preprocess.resolution, images, held_out)
    side = (teacher_preprocess or preprocess).resolution
    loaded = LoadedTeacher(teacher, nn.Identity(), teacher_preprocess or preprocess)
    device = device_of(teacher)
    with ExitStack() as restored:
        restored.enter_context(flags_restored(student, teacher))
        restored.enter_context(evaluating(teacher))
        restored.callback(teacher.to, device)
        restored.enter_context(freezing(student, chosen.freeze))
        folder = restored.enter_context(tempfile.TemporaryDirectory())
        module = FitModule(
            student,
            preprocess,
            [images],
            held_out,
            (views or Views()) if chosen.augment else PLAIN,
            chosen,
            OnlineTeacher(loaded, nn.Identity(), chosen.views, macs(teacher, side)),
            seed=seed,
            image_macs=training_macs(student, preprocess.resolution),
        )
        return fit(module, _settings(Trainer, dict(trainer or {})), Path(folder), "distill")


def prune(model: nn.Module, resolution: int, **settings: Any) -> nn.Module:
    """Return a copy of `model` without its least important channels; see `compress.pruning.search.prune_channels`.

    Warns of layers that torch-pruning cannot follow, which keep their channels.

    Args:
        resolution: Side of its input in pixels.
        settings: Settings of a `prune` stage: `target_macs=0.5`, `importance="l2"`, `round_to=16`, ...

    Raises:
        UsageError: a setting is wrong, or the target cannot be reached.
        CompressError: the architecture cannot be pruned.
    """
    limit_threads()
    channels = _settings(Channels, settings)
    found = find_prunable(model, resolution, channels)
    if found.left:
        warnings.warn(describe_left(found.left), CompressWarning, stacklevel=2)
    return prune_channels(model, resolution, channels, prunable=found)


def quantize(model: nn.Module, calibration: Iterable[Tensor], *, method: str = AUTO, **settings: Any) -> nn.Module:
    """Return an INT8 copy of `model` for any batch size; see `compress.quantization.ptq.quantize`.

    Args:
        calibration: Batches `[b, 3, r, r]` of the calibration set, normalised as in training.
        method: `torchao`, `nncf` or `onnxruntime`; `auto`: the first of them that has these settings.
        settings: Fields of `compress.quantization.config.QuantizationConfig`: `observer="percentile"`, ...

    Raises:
        UsageError: there is no such setting or method, or the calibration set is empty.
        CompressError: no layer could be quantized.
    """
    limit_threads()
    batches = list(calibration)
    if not batches:
        raise UsageError("no calibration images; pass at least one batch")
    for batch in batches:
        if not isinstance(batch, Tensor) or batch.ndim != 4 or not batch.is_floating_point():
            is_array = isinstance(batch, Tensor | np.ndarray)
            found = f"{batch.dtype} {list(batch.shape)}" if is_array else type(batch).__name__
            raise UsageError(
                f"calibration must be batches, float tensors [b, 3, r, r], not {found}; pass one tensor as `[images]`, "
                "and a loader that gives labels too as `[images for images, _ in loader]`"
            )
        if batch.shape[-1] != batch.shape[-2]:
            raise UsageError(f"calibration must be square images [b, 3, r, r], not {list(batch.shape)}; crop them")
    try:
        config = QuantizationConfig(**settings)
    except TypeError as error:
        raise UsageError(f"quantize: unknown setting: {error}") from error
    if method not in (names := of_variants()) and method != AUTO:
        raise UsageError(f"quantize: {unknown('method', method, (AUTO, *names))}")
    config = replace(config, keep=tuple(layers_named(model, config.keep)))
    chosen = first_able(names, Demands.of(config)) if method == AUTO else method
    if chosen is None:
        raise UsageError(f"quantize: no method has all of these settings: {', '.join(settings)}; remove one")
    return quantize_post_training(model, batches, torch.zeros(2, *batches[0].shape[1:]), config, chosen).network


def measure(
    models: Mapping[str, nn.Module], resolution: int, batches: Sequence[int] = (1, 16), rounds: int = 30
) -> dict[str, NetworkCost]:
    """Measure the cost of float networks on this machine, with interleaved timings in eager PyTorch.

    Args:
        models: Networks by name, all on one device, where they are timed; on CUDA by its events. Each gets images of
            its own number format, in eval mode for the time being. Latency ratios are to the first.
        resolution: Side of their input in pixels.
        batches: Batch sizes to time.
        rounds: Timing rounds, in each of which every network is timed once.

    Returns:
        Costs by name, in the order of `models`.

    Raises:
        UsageError: the networks are on different devices.
    """
    limit_threads()
    device = _common_device(models)
    with ExitStack() as modes:
        for model in models.values():
            modes.enter_context(evaluating(model))
        return _measure(models, resolution, batches, rounds, device)


def _measure(
    models: Mapping[str, nn.Module], resolution: int, batches: Sequence[int], rounds: int, device: torch.device
) -> dict[str, NetworkCost]:
    """Measure networks in eval mode on their device."""
    latency: dict[str, list[LatencyMeasurement]] = {name: [] for name in models}
    counts = {name: count(model, resolution) for name, model in models.items()}
    for batch in batches:
        images = torch.zeros(batch, 3, resolution, resolution, device=device)
        runs = {name: partial(_forward, model, images.to(_dtype(model))) for name, model in models.items()}
        timings = TAIL_TIMINGS if rounds >= TAIL_ROUNDS else 0
        times = measure_interleaved(runs, rounds, timings=timings, timer=_timer(device))
        for name, own in times.items():
            figures = summary([own], [next(iter(times.values()))])
            latency[name].append(
                LatencyMeasurement(
                    batch=batch,
                    p50_ms=figures["p50_ms"],
                    p99_ms=figures["p99_ms"],
                    ratio_to_reference=figures["ratio_to_reference"],
                    ratio_ci95=figures["ratio_ci95"],
                    peak_memory_bytes=cuda.peak_bytes(runs[name], device) if device.type == "cuda" else None,
                )
            )
    return {
        name: NetworkCost(
            macs=counts[name].macs,
            bit_operations=bit_operations(counts[name].layers),
            params=parameters(model),
            latency=tuple(latency[name]),
        )
        for name, model in models.items()
    }


def _common_device(models: Mapping[str, nn.Module]) -> torch.device:
    devices = {device_of(model) for model in models.values()}
    if len(devices) > 1:
        names = ", ".join(sorted(map(str, devices)))
        raise UsageError(f"the networks are on several devices ({names}), whose times have no ratio; move them to one")
    return next(iter(devices), torch.device("cpu"))


def _dtype(model: nn.Module) -> torch.dtype:
    """Return the number format of a network's weights; FP32 for one without."""
    return next((weight.dtype for weight in model.parameters() if weight.is_floating_point()), torch.float32)


def _timer(device: torch.device) -> Timer | None:
    return cuda.timer_on(device) if device.type == "cuda" else None


@torch.inference_mode()
def _forward(model: nn.Module, images: Tensor) -> None:
    model(images)


def _settings(kind: type[S], values: Mapping[str, object]) -> S:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def split_of(data: Labelled) -> Split:
    """Check images and labels from the caller; a `UsageError` if their shape or type is wrong."""
    images, labels = (None if part is None else np.asarray(part) for part in data)
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise UsageError("images must be uint8 [n, 3, h, w], at least one")
    if labels is not None and labels.shape != (len(images),):
        raise UsageError(f"labels must be [{len(images)}], one per image, not {list(labels.shape)}")
    return Split(images, None if labels is None else labels.astype(np.int64))


def require_labels(split: Split, what: str) -> None:
    """Refuse images without a label."""
    if split.labels is None or (split.labels < 0).any():
        raise UsageError(f"{what} needs the label of every image; leave out images without one")


def refuse_labels_from(split: Split, classes: int) -> None:
    """Refuse labels that are none of so many classes."""
    if split.labels is not None and split.labels.max() >= classes:
        raise UsageError(f"label {split.labels.max()} is not one of {classes} classes, which count from 0")


def _refuse_labels_beyond(student: nn.Module, side: int, *splits: Split) -> None:
    with evaluating(student), torch.no_grad():
        outputs = student(torch.zeros(1, 3, side, side, device=device_of(student))).shape[1]
    for split in splits:
        refuse_labels_from(split, outputs)
