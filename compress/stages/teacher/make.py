"""Make the variant of a `teacher` stage: evaluate the teacher and store its head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from compress.data.prepared import Split
from compress.models.features import FeatureTower
from compress.models.jit_fuse import fuse_layers
from compress.models.probe import fit_feature_probe, fit_probe
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

    if not isinstance(loaded.tower, FeatureTower):
        probe, ledger = fit_head(context, loaded, embedder, fit_probe)
        return probe.head, ledger
    probe, ledger = fit_head(context, loaded, embedder, fit_feature_probe)
    return probe.head, ledger.charge("probe: fit of the head", probe.macs)
