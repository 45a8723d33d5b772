"""Make the variant of a `teacher` stage: evaluate the teacher and store its head."""

from __future__ import annotations

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
from compress.recipe.models import OpenClipTeacher
from compress.results import Ledger
from compress.stages.context import StageContext, evaluate_and_store, float_inference
from compress.stages.planned import PlannedStage
from compress.stages.teacher import TeacherStage
from compress.training.teacher_cache import embed_views
from compress.utils.console import say


def make_teacher(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Evaluate the teacher and store its head."""
    stage = planned.stage
    assert isinstance(stage, TeacherStage)
    loaded, ledger = context.teacher(planned.id), Ledger.start()
    for note in loaded.notes:
        say(f"  {stage.teacher.checkpoint or stage.teacher.model}: {note}")
    if isinstance(stage.teacher, OpenClipTeacher) and stage.teacher.head == "probe":
        head, ledger = _fit_head(context, planned, loaded, ledger)
        loaded = replace(loaded, head=head)
    if isinstance(loaded.head, nn.Linear):
        save_file(loaded.head.state_dict(), folder / "head.safetensors")
    model = loaded.classifier()
    fast = fuse_layers(model.to(memory_format=torch.channels_last), loaded.preprocess.resolution)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    inference = float_inference(model, loaded.preprocess, size)
    evaluate_and_store(context, planned.id, folder, (fast, loaded.preprocess), inference, ledger)


def _fit_head(
    context: StageContext, planned: PlannedStage, loaded: LoadedTeacher, ledger: Ledger
) -> tuple[nn.Linear, Ledger]:
    """Fit a probe on embeddings of the labelled train images; weight decay is selected on validation."""
    sides = []
    for split in (context.data.train, context.data.validation):
        (file,) = embed_views(context.embedder(planned.id, [split], augment=False, loaded=loaded), 1)
        assert split.labels is not None
        sides.append((torch.from_numpy(np.load(file)), torch.from_numpy(np.array(split.labels))))
    probe = fit_probe(sides[0], sides[1], len(context.data.classes))
    say(f"  probe: weight decay {probe.strength:.1e}, {probe.top1:.1%} on validation")
    images = len(context.data.train) + len(context.data.validation)
    cost = images * macs(loaded.tower, loaded.preprocess.resolution)
    return probe.head, ledger.charge(f"probe: embeddings of {images} images", cost)
