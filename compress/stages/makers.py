"""What each kind of stage does: from entries of the store to a new one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from compress.measurement.compute import macs
from compress.models.jit_fuse import fuse_layers
from compress.models.probe import fit_probe
from compress.models.teachers import LoadedTeacher
from compress.pipeline.plan import PlannedStage
from compress.recipe.models import OpenClipTeacher
from compress.recipe.schema import DistillStage, TeacherStage, TrainStage
from compress.stages.context import (
    Metrics,
    StageContext,
    float_inference,
    test_logits,
    write_network,
    write_variant,
)
from compress.stages.fitting import charge, distil, fit_network, new_ledger, new_student
from compress.stages.prune import make_pruned
from compress.stages.quantize import make_quantized
from compress.stages.shrink import make_shrunk
from compress.stages.sparsify import make_sparse
from compress.training.teacher_cache import embed_views
from compress.utils.console import say


def make_teacher(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Measure the teacher, and keep its head for those who learn from it."""
    loaded = work.teacher(unit.id)
    training = new_ledger()
    stage = unit.stage
    assert isinstance(stage, TeacherStage)
    if isinstance(stage.teacher, OpenClipTeacher) and stage.teacher.head == "probe":
        loaded = replace(loaded, head=_probe(work, unit, loaded, training))
    if isinstance(loaded.head, nn.Linear):
        save_file(loaded.head.state_dict(), folder / "head.safetensors")
    model = loaded.classifier()
    fast = fuse_layers(model.to(memory_format=torch.channels_last), loaded.preprocess.resolution)
    logits = test_logits(fast, loaded.preprocess, work.data.test, unit.id)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    write_variant(folder, work, logits, float_inference(model, loaded.preprocess, size), training)


def _probe(work: StageContext, unit: PlannedStage, loaded: LoadedTeacher, ledger: Metrics) -> nn.Linear:
    """A probe on the embeddings of the labelled train images as they are, its strength chosen on validation."""
    sides = []
    for split in (work.data.train, work.data.validation):
        (file,) = embed_views(work.embedder(unit.id, [split], augment=False, loaded=loaded), 1)
        assert split.labels is not None
        sides.append((torch.from_numpy(np.load(file)), torch.from_numpy(np.array(split.labels))))
    probe = fit_probe(sides[0], sides[1], len(work.data.classes))
    say(f"  probe: weight decay {probe.strength:.1e}, {probe.top1:.1%} on validation")
    images = len(work.data.train) + len(work.data.validation)
    charge(ledger, f"probe: embeddings of {images} images", images * macs(loaded.tower, loaded.preprocess.resolution))
    return probe.head


def make_trained(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Supervised training of a new student on the labelled images."""
    stage = unit.stage
    assert isinstance(stage, TrainStage)
    model, architecture = new_student(work, stage)
    training = fit_network(work, unit, folder, model, architecture, stage, [work.data.train], None, new_ledger())
    write_network(work, unit, folder, model, architecture, training)


def make_distilled(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Distillation of the teacher into a new student, on labelled and unlabelled images."""
    stage = unit.stage
    assert isinstance(stage, DistillStage)
    model, architecture = new_student(work, stage)
    training = distil(work, unit, folder, model, architecture, stage, new_ledger())
    write_network(work, unit, folder, model, architecture, training)


MAKERS: dict[str, Callable[[StageContext, PlannedStage, Path], None]] = {
    "teacher": make_teacher,
    "train": make_trained,
    "distill": make_distilled,
    "prune": make_pruned,
    "shrink": make_shrunk,
    "sparsify": make_sparse,
    "quantize": make_quantized,
}
