"""Context shared by stages: load variants, evaluate and store new ones.

Every variant's folder has `metrics.json` and `test_logits.npy` (float32 `[test images, classes]`), plus
`architecture.json` and `model.safetensors` for a student and `head.safetensors` for a teacher with a linear head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule

from compress.data.prepared import ImageData, Split
from compress.data.preprocess import Preprocess, describe
from compress.data.rendered import rendered
from compress.data.source import Rows
from compress.measurement.accuracy import accuracy_record, chance
from compress.measurement.compute import bit_operations, count, parameters
from compress.measurement.device import CPU, choose_device, on_device
from compress.measurement.predict import Logits, predict_split
from compress.measurement.widths import widths
from compress.models.architecture import Network
from compress.models.checkpoints import WEIGHTS, load_variant, save_variant
from compress.models.class_names import chance_warning
from compress.models.eager import stored_head
from compress.models.onnx_network import ONNX, OnnxNetwork
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.data import PLAIN
from compress.recipe.schema import Recipe
from compress.results import Accuracy, Inference, LayerWidths, Ledger, VariantMetrics
from compress.stages.costs import SPEEDS
from compress.stages.existing import ExistingNetwork
from compress.stages.planned import Plan
from compress.stages.teacher import TeacherStage
from compress.stages.teacher_inputs import embeddings_identity
from compress.store.store import Store
from compress.training.formats import Format, FormatChooser, choose_for_passes, with_layout
from compress.training.loggers import FitLoggers
from compress.training.teacher_cache import Embedder
from compress.utils.console import say
from compress.utils.errors import CompressError

METRICS = "metrics.json"
LOGITS = "test_logits.npy"
BATCH = 64  # images per forward pass of an evaluation; the bits of logits depend on it
GPU_BATCH = 512  # the same on a GPU, halved where its memory does not suffice


@dataclass(frozen=True)
class StageContext:
    """Everything that stages need besides their own settings."""

    plan: Plan
    store: Store
    data: ImageData
    loggers: FitLoggers = field(default_factory=FitLoggers)

    @property
    def recipe(self) -> Recipe:
        return self.plan.recipe

    @property
    def chooser(self) -> FormatChooser:
        """Chooses number formats and memory layouts by the timings of this machine."""
        return FormatChooser(self.store.root / SPEEDS)

    @cached_property
    def device(self) -> torch.device:
        """Device of fits, embeddings, evaluation and calibration."""
        return choose_device(self.recipe.trainer)

    @property
    def batch(self) -> int:
        """Images per forward pass of an evaluation."""
        return BATCH if self.device.type == "cpu" else GPU_BATCH

    def logits(self, model: nn.Module, split: str, preprocess: Preprocess) -> Logits:
        """Compute the logits `[images, classes]` of a network for a split, on the device of the run.

        The network, in eval mode, is on the CPU before and after.
        """
        with on_device(model, self.device_for(model)):
            images, preprocess = self.rendered(split, preprocess)
            return predict_split(model, preprocess, images, self.batch)

    def device_for(self, model: nn.Module) -> torch.device:
        """Return the device that a network runs on: the run's, or the CPU for ONNX files."""
        return CPU if isinstance(model, OnnxNetwork) else self.device

    def folder(self, identifier: str) -> Path:
        """Return the folder of a stage in the store."""
        return self.store.path(self.plan.stage(identifier).key)

    def metrics(self, identifier: str) -> VariantMetrics:
        """Read the metrics of a variant."""
        return VariantMetrics.read(self.folder(identifier) / METRICS)

    def rendered(self, split: str, preprocess: Preprocess, rows: Rows | None = None) -> tuple[Split, Preprocess]:
        """Return the images of a split, or rows of it, as a network is evaluated on them; see `data.rendered`."""
        return rendered(self.data, self.store, split, preprocess, rows)

    def parent_network(self, parent: str | None) -> Network:
        """Load the network that a stage starts from, on the CPU and in eval mode."""
        assert parent
        if isinstance(self.plan.stage(parent).stage, TeacherStage):
            return self._with_stored_head(parent).network()
        return load_variant(self.folder(parent))

    def teacher(self, identifier: str) -> LoadedTeacher:
        """Load a teacher: with its library, or as the network that it is in the store."""
        stage = self.plan.stage(identifier).stage
        if isinstance(stage, TeacherStage):
            return load_teacher(stage.teacher, self.recipe.data, self.data.classes, self.data.resolution)
        network = load_variant(self.folder(identifier))
        return LoadedTeacher(network.model, nn.Identity(), network.preprocess, network.architecture)

    def _with_stored_head(self, identifier: str) -> LoadedTeacher:
        return replace(self.teacher(identifier), head=stored_head(self.folder(identifier)))

    def embedder(
        self,
        identifier: str,
        splits: Sequence[Split],
        augment: bool,
        loaded: LoadedTeacher | None = None,
        precision: str = "32-true",
    ) -> Embedder:
        """Return an embedder of the views of `splits`, which caches a teacher's embeddings in the store."""
        planned = self.plan.stage(identifier)
        stage = planned.stage
        assert isinstance(stage, ExistingNetwork)
        return Embedder(
            self.store,
            lambda: loaded or self.teacher(identifier),
            splits,
            self.recipe.data.views if augment else PLAIN,
            self.recipe.seed,
            stage.batch,
            embeddings_identity(self.data, splits, stage.embedding_id(planned), precision),
            self.chooser if precision == "auto" else None,
            self.device,
        )

    def classifier(self, identifier: str) -> tuple[nn.Module, Preprocess]:
        """Load a variant of any kind with its preprocessing, on the CPU and in eval mode."""
        if isinstance(self.plan.stage(identifier).stage, TeacherStage):
            loaded = self._with_stored_head(identifier)
            return loaded.classifier(), loaded.preprocess
        network = load_variant(self.folder(identifier))
        return network.model, network.preprocess

    def eager_arguments(self, identifier: str) -> dict[str, Any]:
        """Return the arguments with which `compress.models.eager` loads a variant in another process, as JSON data."""
        arguments: dict[str, Any] = {"folder": str(self.folder(identifier))}
        stage = self.plan.stage(identifier).stage
        if isinstance(stage, TeacherStage):
            data = self.recipe.data
            arguments["teacher"] = stage.teacher.model_dump(mode="json")
            arguments["data"] = {"source": data.source, "templates": data.templates, "prompts": data.prompts}
            arguments["classes"], arguments["resolution"] = list(self.data.classes), self.data.resolution
        return arguments


def float_inference(model: nn.Module, preprocess: Preprocess, size: int) -> Inference:
    """Return the inference cost of an FP32 network whose weights take `size` bytes."""
    counted = count(model, preprocess.resolution)
    return Inference(
        macs=counted.macs,
        bit_operations=bit_operations(counted.layers, {}),
        uncounted_operators=tuple(sorted(counted.uncounted)),
        params=parameters(model),
        bytes=size,
        weight_bits=32,
        activation_bits=32,
        quantized_convs=0,
        total_convs=sum(isinstance(module, nn.Conv2d) for module in model.modules()),
    )


def quantized_inference(
    model: nn.Module,
    preprocess: Preprocess,
    bits: Mapping[str, tuple[int, int]],
    convolutions: tuple[int, int],
    size: int,
) -> Inference:
    """Return the inference cost of a quantized network.

    Args:
        model: The float network, or an ONNX file with its layers.
        preprocess: Its preprocessing.
        bits: (weight bits, activation bits) of the quantized layers, by their names in `model`.
        convolutions: Number of quantized convolutions, and of all.
        size: Bytes of the quantized weights.
    """
    counted = count(model, preprocess.resolution)
    return Inference(
        macs=counted.macs,
        bit_operations=bit_operations(counted.layers, bits),
        uncounted_operators=tuple(sorted(counted.uncounted)),
        params=parameters(model),
        bytes=size,
        weight_bits=min(weight for weight, _ in bits.values()),
        activation_bits=min(activation for _, activation in bits.values()),
        widths=tuple(LayerWidths.model_validate(row) for row in widths(model, counted.layers, bits)),
        quantized_convs=convolutions[0],
        total_convs=convolutions[1],
    )


def split_accuracy(logits: Logits, split: Split, name: str) -> Accuracy:
    """Return the accuracy of logits `[images, classes]` on a labelled split."""
    assert split.labels is not None
    return Accuracy.model_validate(accuracy_record(logits.argmax(1), np.asarray(split.labels), name))


def store_network(
    context: StageContext,
    label: str,
    folder: Path,
    network: Network,
    ledger: Ledger,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Store a float network, load it back and evaluate it; `details`: `pruning` or `sparsity` of its metrics."""
    save_variant(folder, network)
    evaluate_stored(context, label, folder, ledger, None, notes, **details)


def evaluate_stored(
    context: StageContext,
    label: str,
    folder: Path,
    ledger: Ledger,
    inference: Inference | None = None,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Load the variant in `folder` and evaluate it; its cost of `inference` is that of a float network by default."""
    stored = load_variant(folder)
    if inference is None:
        weights = folder / (ONNX if isinstance(stored.model, OnnxNetwork) else WEIGHTS)
        inference = float_inference(stored.model, stored.preprocess, weights.stat().st_size)
    evaluate_and_store(context, label, folder, (stored.model, stored.preprocess), inference, ledger, notes, **details)


def evaluate_and_store(
    context: StageContext,
    label: str,
    folder: Path,
    classifier: tuple[nn.Module, Preprocess],
    inference: Inference,
    ledger: Ledger,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Evaluate a network on validation and test, and write `metrics.json` and `test_logits.npy`.

    Raises a `CompressError` if logits are not finite.
    """
    model, preprocess = classifier
    validation, chosen = context.data.validation, None
    with on_device(model, context.device_for(model)):
        model.to(memory_format=_layout(context, label, model, preprocess))
        logits = _predict(context, model, "test", preprocess, label)
        if not np.isfinite(logits).all():
            raise CompressError("non-finite logits on the test split; lower the learning rate or check the weights")
        if len(validation):
            chosen = _predict(context, model, "validation", preprocess, label)
    np.save(folder / LOGITS, logits)
    record = split_accuracy(logits, context.data.test, "test")
    if context.plan.stage(label).stage.brings_network:
        say(f"  input: {describe(preprocess)}")
    remarks = [*notes, *_chance(context, label, record, ledger)]
    for remark in remarks:
        say(f"  {remark}")
    metrics = VariantMetrics.model_validate(
        {
            "preprocess": describe(preprocess),
            "remarks": tuple(remarks) or None,
            "accuracy": record,
            "validation": None if chosen is None else split_accuracy(chosen, validation, "validation"),
            "inference": inference,
            "training": ledger,
            **details,
        }
    )
    metrics.write(folder / METRICS)
    if inference.uncounted_operators:
        say(f"  operators not counted as MACs: {', '.join(inference.uncounted_operators)}")
    say(f"  top-1 on test {record.top1:.2%} ({record.correct} of {record.n})")


def _chance(context: StageContext, label: str, accuracy: Accuracy, ledger: Ledger) -> Iterator[str]:
    """Warn of a network that nothing was trained of and that is not shown to be above chance."""
    stage = context.plan.stage(label).stage
    if isinstance(stage, ExistingNetwork) and ledger.macs == 0:
        level, settings = chance(np.asarray(context.data.test.labels)), type(stage.network).model_fields
        warning = chance_warning(label, accuracy, level, context.data.classes, settings)
        yield from [warning] if warning else []


def _layout(context: StageContext, label: str, model: nn.Module, preprocess: Preprocess) -> torch.memory_format:
    """Return the memory layout of the weights for evaluation, which is in FP32 whatever the training was in."""
    formats = [Format(channels_last=True), Format(channels_last=False)]
    if context.recipe.trainer.precision != "auto" or isinstance(model, GraphModule | OnnxNetwork):
        return formats[0].memory_format
    if isinstance(context.plan.stage(label).stage, ExistingNetwork):  # its key has no `trainer`
        return formats[0].memory_format
    shape, name = (context.batch, preprocess.resolution), f"evaluation of {label}"
    return choose_for_passes(
        context.chooser, model, "evaluation", shape, formats, name, with_layout
    ).format.memory_format


def _predict(context: StageContext, model: nn.Module, name: str, preprocess: Preprocess, label: str) -> Logits:
    split, preprocess = context.rendered(name, preprocess)
    return predict_split(
        model,
        preprocess,
        split,
        context.batch,
        memory_format=torch.channels_last,
        progress=f"{label}: {name} images",
    )
