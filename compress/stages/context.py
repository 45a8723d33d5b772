"""What stages share: the variants made so far, and how a new one is measured and written.

Every variant's folder has `metrics.json` and `test_logits.npy` (float32 `[test images, classes]`); networks of our own
have `architecture.json` and `model.safetensors`, teachers `head.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from compress.data.prepared import ImageData, Split, prepare
from compress.data.preprocess import Preprocess
from compress.measurement.accuracy import accuracy_record
from compress.measurement.compute import bit_operations, count, parameters
from compress.models.checkpoints import load_variant, save_variant
from compress.models.fingerprint import embedding_id
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.pipeline.plan import Plan, PlannedStage
from compress.recipe.data import PLAIN
from compress.recipe.schema import Recipe, TeacherStage
from compress.stages.teacher_inputs import embeddings_of
from compress.store.store import Store
from compress.training.loggers import FitLoggers
from compress.training.teacher_cache import Embedder
from compress.utils.console import say, task
from compress.utils.errors import CompressError

Metrics = dict[str, Any]


@dataclass(frozen=True)
class StageContext:
    """What stages need besides their own settings."""

    plan: Plan
    store: Store
    watch: FitLoggers = field(default_factory=FitLoggers)

    @property
    def recipe(self) -> Recipe:
        return self.plan.recipe

    @cached_property
    def data(self) -> ImageData:
        return prepare(self.recipe.data, self.store, self.recipe.seed)

    def folder(self, identifier: str) -> Path:
        return self.store.path(self.plan.unit(identifier).key)

    def metrics(self, identifier: str) -> Metrics:
        return json.loads((self.folder(identifier) / "metrics.json").read_text())  # type: ignore[no-any-return]

    def teacher(self, identifier: str) -> LoadedTeacher:
        stage = self.plan.unit(identifier).stage
        assert isinstance(stage, TeacherStage)
        return load_teacher(stage.teacher, self.recipe.data, self.data.classes, self.data.resolution)

    def embedder(
        self, identifier: str, splits: Sequence[Split], augment: bool, loaded: LoadedTeacher | None = None
    ) -> Embedder:
        """What embeds views of the images of `splits` with a teacher, and keeps them in the store."""
        stage = self.plan.unit(identifier).stage
        assert isinstance(stage, TeacherStage)
        return Embedder(
            self.store,
            lambda: loaded or self.teacher(identifier),
            splits,
            self.recipe.data.views if augment else PLAIN,
            self.recipe.seed,
            stage.teacher.batch,
            embeddings_of(self.data, splits, embedding_id(stage.teacher)),
        )

    def network(self, identifier: str) -> tuple[nn.Module, Preprocess]:
        """The network of a variant, on the CPU and in eval mode, with what images go through before it."""
        if isinstance(self.plan.unit(identifier).stage, TeacherStage):
            loaded = replace(self.teacher(identifier), head=stored_head(self.folder(identifier)))
            return loaded.classifier(), loaded.preprocess
        model, architecture = load_variant(self.folder(identifier))
        return model, Preprocess.from_dict(architecture["preprocess"])


@torch.inference_mode()
def test_logits(model: nn.Module, preprocess: Preprocess, test: Split, what: str) -> np.ndarray:
    """Logits of the test images, float32 `[images, classes]`."""
    model.to(memory_format=torch.channels_last)
    answers = []
    with task(f"{what}: test images", len(test.images)) as advance:
        for rows in parts(np.arange(len(test.images)), 64):
            pixels = preprocess(torch.from_numpy(np.array(test.images[rows[0] : rows[-1] + 1])))
            answers.append(model(pixels.contiguous(memory_format=torch.channels_last)).float().numpy())
            advance(len(rows))
    return np.concatenate(answers)


def parts(rows: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Consecutive parts of `rows`, of `size` each but for the last."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def stored_head(folder: Path) -> nn.Module:
    """The head that a teacher stage has stored: from embeddings to logits."""
    path = folder / "head.safetensors"
    if not path.exists():
        return nn.Identity()
    weights = load_file(path)
    classes, width = weights["weight"].shape
    head = nn.Linear(width, classes)
    head.load_state_dict(weights)
    return head


def write_network(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    model: nn.Module,
    architecture: dict[str, Any],
    training: Metrics,
    **details: Metrics,
) -> None:
    """Store a network, and measure what was stored: it is read back first; `details` go into its metrics."""
    save_variant(folder, architecture, model.state_dict())
    stored, _ = load_variant(folder)
    preprocess = Preprocess.from_dict(architecture["preprocess"])
    size = (folder / "model.safetensors").stat().st_size
    logits = test_logits(stored, preprocess, work.data.test, unit.id)
    write_variant(folder, work, logits, float_inference(stored, preprocess, size), training, **details)


def float_inference(model: nn.Module, preprocess: Preprocess, size: int) -> Metrics:
    """The `inference` record of a network in FP32 whose weights take `size` bytes."""
    counted = count(model, preprocess.resolution)
    return {
        "macs": counted.macs,
        "bit_operations": bit_operations(counted.layers, {}),
        "uncounted_operators": sorted(counted.uncounted),
        "params": parameters(model),
        "bytes": size,
        "weight_bits": 32,
        "activation_bits": 32,
        "quantized_convs": 0,
        "total_convs": sum(isinstance(module, nn.Conv2d) for module in model.modules()),
    }


def write_variant(
    folder: Path, work: StageContext, logits: np.ndarray, inference: Metrics, training: Metrics, **details: Metrics
) -> None:
    """Write `metrics.json` and `test_logits.npy`.

    Raises:
        CompressError: the network answers with something that is no number.
    """
    if not np.isfinite(logits).all():
        raise CompressError("the network's outputs on the test images are no numbers")
    labels = work.data.test.labels
    assert labels is not None
    np.save(folder / "test_logits.npy", logits)
    record = accuracy_record(logits.argmax(1), labels, "test")
    metrics = {"accuracy": record, "inference": inference, "training": training, **details}
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1))
    if inference.get("uncounted_operators"):
        say(f"  not counted in its MACs: {', '.join(inference['uncounted_operators'])}")
    say(f"  top-1 on test {record['top1']:.2%} ({record['correct']} of {record['n']})")
