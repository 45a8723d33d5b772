"""Make the variant of a `teacher` stage: evaluate the teacher and store its head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from compress.data.prepared import Split
from compress.models.ensemble import EnsembleTower, Sides, fit_mean_head
from compress.models.features import FeatureTower
from compress.models.jit_fuse import fuse_layers
from compress.models.probe import Probe, fit_feature_probe, fit_probe
from compress.models.teachers import LoadedTeacher
from compress.results import Ledger
from compress.stages.context import StageContext
from compress.stages.evaluation import evaluate_and_store, float_inference
from compress.stages.planned import PlannedStage
from compress.stages.probing import fit_head
from compress.stages.teacher import TeacherStage
from compress.training.teacher_cache import Embedder


def make_teacher(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Evaluate the teacher and store its head."""
    stage = planned.stage
    assert isinstance(stage, TeacherStage)
    loaded, ledger = context.teacher(planned.id), Ledger.start()
    if stage.teacher.head == "probe":
        head, ledger = _fit_head(context, planned, loaded)
        loaded = replace(loaded, head=head)
    if isinstance(loaded.head, nn.Linear):
        save_file(loaded.head.state_dict(), folder / "head.safetensors")
    model = loaded.classifier()
    model.to(memory_format=torch.channels_last)
    fast = fuse_layers(model, loaded.preprocess.resolution) if context.device.type == "cpu" else model
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    inference = float_inference(model, loaded.preprocess, size)
    evaluate_and_store(context, planned.id, folder, (fast, loaded.preprocess), inference, ledger, loaded.notes)


def _fit_head(context: StageContext, planned: PlannedStage, loaded: LoadedTeacher) -> tuple[nn.Linear, Ledger]:
    def embedder(split: Split) -> Embedder:
        return context.embedder(planned.id, [split], augment=False, loaded=loaded)

    probe, ledger = fit_head(context, loaded, embedder, _fit(loaded))
    if not isinstance(loaded.tower, FeatureTower | EnsembleTower):
        return probe.head, ledger
    return probe.head, ledger.charge("probe: fit of the head", probe.macs)


def _fit(loaded: LoadedTeacher) -> Callable[[Sides, Sides, int], Probe]:
    """Return the function that fits a teacher's head on its embeddings."""
    if isinstance(loaded.tower, EnsembleTower) and not loaded.tower.unit:
        return partial(fit_mean_head, loaded.tower, fit_feature_probe)
    return fit_feature_probe if isinstance(loaded.tower, FeatureTower | EnsembleTower) else fit_probe
