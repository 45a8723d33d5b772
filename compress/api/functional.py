"""The parts of a recipe as functions, for people with networks, images and a loop of their own.

Images are uint8 `[n, 3, h, w]`. Settings have the names and the defaults that they have in a recipe.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.compute import bit_operations, count, macs, parameters, training_macs
from compress.measurement.latency import measure_interleaved, summary
from compress.models.teachers import LoadedTeacher
from compress.pruning.channels import prune_channels
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize as quantize_post_training
from compress.recipe.base import Section
from compress.recipe.data import PLAIN, Views
from compress.recipe.fit import Distillation
from compress.recipe.schema import Channels, Trainer
from compress.registry import QUANTIZERS
from compress.training.fit import Fitted, fit
from compress.training.module import Fitting
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.errors import UsageError

S = TypeVar("S", bound=Section)
Labelled = tuple["np.ndarray[Any, Any] | Tensor", "np.ndarray[Any, Any] | Tensor | None"]
"""Images uint8 `[n, 3, h, w]`, and labels int64 `[n]` (-1: none), or None where no image has one."""


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
    trainer: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Fitted:
    """Fit a student, in place, to what a teacher answers about views of images.

    Args:
        student: Pixels `[b, 3, r, r]` to logits `[b, classes]`.
        teacher: The same, for its own pixels; it is not trained.
        data: Images to learn from; those without a label are learnt from the teacher alone.
        validation: Images with labels, whose accuracy follows each epoch.
        preprocess: What images go through before the student.
        teacher_preprocess: And before the teacher, where that differs.
        views: How a view may differ from its image; without it, as in a recipe.
        seed: Of order and views.
        trainer: What goes to Lightning's Trainer: `{"accelerator": "gpu"}`.
        settings: Of a `distill` stage: `epochs`, `lr`, `losses={"ce": 1, "kd": 1}`, ...

    Returns:
        The accuracy after each epoch with the multiply-accumulates spent till then, steps, images and seconds.

    Raises:
        UsageError: a setting is wrong, or the images are.
        CompressError: the loss is no number any more.
    """
    chosen = _settings(Distillation, {**settings, "teacher": "live"})
    side = (teacher_preprocess or preprocess).resolution
    loaded = LoadedTeacher(teacher.eval(), nn.Identity(), teacher_preprocess or preprocess)
    module = Fitting(
        student,
        preprocess,
        [_split(data)],
        _split(validation),
        (views or Views()) if chosen.augment else PLAIN,
        chosen,
        OnlineTeacher(loaded, nn.Identity(), chosen.views, macs(teacher, side)),
        seed=seed,
        image_macs=training_macs(student, preprocess.resolution),
    )
    with tempfile.TemporaryDirectory() as work:
        return fit(module, _settings(Trainer, dict(trainer or {})), Path(work), "distill")


def prune(model: nn.Module, resolution: int, **settings: Any) -> nn.Module:
    """A copy of `model` without its least important channels; see `compress.pruning.channels.prune_channels`.

    Args:
        model: The network.
        resolution: Side of its images in pixels.
        settings: Of a `prune` stage: `target_macs=0.5`, `importance="l2"`, `round_to=16`, ...

    Raises:
        UsageError: a setting is wrong, or the target cannot be reached.
        CompressError: the architecture cannot be pruned.
    """
    return prune_channels(model, resolution, _settings(Channels, settings))


def quantize(model: nn.Module, calibration: Iterable[Tensor], *, method: str = "torchao", **settings: Any) -> nn.Module:
    """An INT8 copy of `model` for any batch size; see `compress.quantization.ptq.quantize`.

    Args:
        model: The float network.
        calibration: Batches of images `[b, 3, r, r]`, normalised as in training.
        method: `torchao`, `nncf` or `onnxruntime`.
        settings: Of `compress.quantization.config.QuantizationConfig`: `observer="percentile"`, `keep=("fc",)`, ...

    Raises:
        UsageError: there is no such setting.
        CompressError: there are no images, or nothing could be quantized.
    """
    batches = list(calibration)
    if not batches:
        raise UsageError("there are no calibration images")
    try:
        config = QuantizationConfig(**settings)
    except TypeError as error:
        raise UsageError(f"quantize takes no such setting: {error}") from error
    if method not in QUANTIZERS:
        raise UsageError(f"there is no method {method!r}; there are {', '.join(QUANTIZERS)}")
    return quantize_post_training(model, batches, torch.zeros(2, *batches[0].shape[1:]), config, method).network


def measure(
    models: Mapping[str, nn.Module], resolution: int, batches: Sequence[int] = (1, 16), rounds: int = 30
) -> dict[str, dict[str, Any]]:
    """Cost of float networks on this machine; latencies in eager PyTorch are timed in turns, side by side.

    Args:
        models: The networks by name; ratios are to the first.
        resolution: Side of their images in pixels.
        batches: Images of a run.
        rounds: Turns of each.

    Returns:
        By name `{macs, bit_operations, params, latency: [{batch, p50_ms, p99_ms, ratio_to_reference, ratio_ci95}]}`;
        multiply-accumulates are for one image, and above 1 a network is faster than the first.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, model in models.items():
        counted = count(model.eval(), resolution)
        costs = {"macs": counted.macs, "bit_operations": bit_operations(counted.layers), "params": parameters(model)}
        found[name] = {**costs, "latency": []}
    for batch in batches:
        images = torch.zeros(batch, 3, resolution, resolution)
        times = measure_interleaved({name: partial(_forward, model, images) for name, model in models.items()}, rounds)
        first = next(iter(times.values()), None)
        for name, taken in times.items():
            found[name]["latency"].append({"batch": batch, **summary(taken, first)})
    return found


@torch.inference_mode()
def _forward(model: nn.Module, images: Tensor) -> None:
    model(images)


def _settings(kind: type[S], values: dict[str, Any]) -> S:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UsageError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _split(data: Labelled) -> Split:
    images, labels = (None if part is None else np.asarray(part) for part in data)
    if images is None or images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != 3 or not len(images):
        raise UsageError("images must be uint8 [n, 3, h, w], and one at least")
    if labels is not None and labels.shape != (len(images),):
        raise UsageError(f"there are {len(images)} images, but labels {list(labels.shape)}")
    return Split(images, None if labels is None else labels.astype(np.int64))
