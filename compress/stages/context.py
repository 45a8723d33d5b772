"""Context shared by stages: plan, store, data and device of a run, and the variants in the store.

Every variant's folder has `metrics.json`, `test_logits.npy` and `validation_logits.npy` (see `evaluation.py`), plus
`architecture.json` and `model.safetensors` for a student and `head.safetensors` for a teacher with a linear head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from compress.data.prepared import ImageData, Split
from compress.data.preprocess import Preprocess
from compress.data.rendered import rendered
from compress.data.source import Rows
from compress.measurement.batch_size import BatchSize
from compress.measurement.device import CPU, choose_devices, on_device
from compress.measurement.predict import Logits, predict_split
from compress.models.architecture import Network
from compress.models.checkpoints import load_variant
from compress.models.eager import stored_head
from compress.models.embedding import encoder_of
from compress.models.onnx_network import OnnxNetwork
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.data import PLAIN
from compress.recipe.schema import Recipe
from compress.results import VariantMetrics
from compress.stages.costs import SPEEDS
from compress.stages.existing import ExistingNetwork
from compress.stages.planned import Plan
from compress.stages.teacher import TeacherStage
from compress.stages.teacher_inputs import embeddings_identity
from compress.stages.train import TrainStage
from compress.store.store import Store
from compress.training.formats import FormatChooser
from compress.training.loggers import FitLoggers
from compress.training.teacher_cache import Embedder

METRICS = "metrics.json"
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
        return self.devices[0]

    @cached_property
    def devices(self) -> list[torch.device]:
        """Devices that embed at once: all of the run on this machine."""
        return choose_devices(self.recipe.trainer)

    @cached_property
    def _batch_sizes(self) -> dict[torch.device, BatchSize]:
        return {}

    def batch_size(self, device: torch.device) -> BatchSize:
        """Return the images per forward pass of evaluations on a device: one size for all stages, once halved too."""
        images = BATCH if device.type == "cpu" else GPU_BATCH
        return self._batch_sizes.setdefault(device, BatchSize(images, "evaluation", device))

    @cached_property
    def importance_batch(self) -> BatchSize:
        """Images per forward and backward pass of the `taylor` importance, on the device of the run."""
        return BatchSize(BATCH, "importance", self.device)

    def logits(self, model: nn.Module, split: str, preprocess: Preprocess) -> Logits:
        """Compute the logits `[images, classes]` of a network for a split, on the device of the run.

        The network, in eval mode, is on the CPU before and after.
        """
        device = self.device_for(model)
        with on_device(model, device):
            images, preprocess = self.rendered(split, preprocess)
            return predict_split(model, preprocess, images, self.batch_size(device))

    def device_for(self, model: nn.Module) -> torch.device:
        """Return the device that a network runs on: the run's, or the CPU for ONNX files."""
        return CPU if isinstance(encoder_of(model), OnnxNetwork) else self.device

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
        return LoadedTeacher(network.classifier, nn.Identity(), network.preprocess, network.architecture)

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
        assert isinstance(stage, ExistingNetwork | TrainStage)
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
            stage.shard,
        )

    def embedders(
        self, identifier: str, splits: Sequence[Split], augment: bool, precision: str = "32-true"
    ) -> list[Embedder]:
        """Return an embedder for each device of the run, with a teacher of its own."""
        first = self.embedder(identifier, splits, augment, precision=precision)
        return [replace(first, device=device) for device in self.devices]

    def classifier(self, identifier: str) -> tuple[nn.Module, Preprocess]:
        """Load a variant of any kind with its preprocessing, on the CPU and in eval mode."""
        model: nn.Module
        if isinstance(self.plan.stage(identifier).stage, TeacherStage):
            loaded = self._with_stored_head(identifier)
            model, self._preprocess[identifier] = loaded.classifier(), loaded.preprocess
        else:
            network = load_variant(self.folder(identifier))
            model, self._preprocess[identifier] = network.classifier, network.preprocess
        return model, self._preprocess[identifier]

    def preprocess(self, identifier: str) -> Preprocess:
        """Return the preprocessing of a variant; its network is loaded for it, unless it has been before."""
        if identifier not in self._preprocess:
            self.classifier(identifier)
        return self._preprocess[identifier]

    @cached_property
    def _preprocess(self) -> dict[str, Preprocess]:
        return {}

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
