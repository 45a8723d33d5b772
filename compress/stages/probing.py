"""Probes: linear heads fitted on the frozen features of teachers and students, without gradient descent on images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.data.prepared import Split
from compress.measurement.compute import macs
from compress.measurement.device import CPU, move
from compress.models.features import FeatureTower
from compress.models.probe import Probe, fit_feature_probe
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import PLAIN
from compress.results import Ledger
from compress.stages.context import StageContext
from compress.stages.evaluation import store_network
from compress.stages.fitting import new_student
from compress.stages.network import NetworkStage
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import embeddings_identity
from compress.training.teacher_cache import Embedder, embed_views
from compress.utils.console import say

Sides = tuple[Tensor, Tensor]
"""Embeddings `[n, width]` and labels int64 `[n]`."""


def fit_head(
    context: StageContext,
    loaded: LoadedTeacher,
    embedder: Callable[[Split], Embedder],
    fit: Callable[[Sides, Sides, int], Probe],
) -> tuple[Probe, Ledger]:
    """Fit a probe on embeddings of the labelled train images; weight decay is selected on validation."""
    sides = []
    for split in (context.data.train, context.data.validation):
        (embedded,) = embed_views([embedder(split)], 1)
        assert split.labels is not None
        sides.append((torch.from_numpy(embedded.all()), torch.from_numpy(np.array(split.labels, np.int64))))
    move(loaded.tower, CPU)
    probe = fit(sides[0], sides[1], len(context.data.classes))
    say(f"  probe: weight decay {probe.strength:.1e}, {probe.top1:.1%} on validation")
    images = len(context.data.train) + len(context.data.validation)
    cost = images * macs(loaded.tower, loaded.preprocess.resolution)
    return probe, Ledger.start().charge(f"probe: embeddings of {images} images", cost)


def make_probed(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Create a student, fit its head as a probe on its own features, and store it."""
    stage = planned.stage
    assert isinstance(stage, NetworkStage)
    network, notes = new_student(context, stage)
    tower = FeatureTower(network.model, network.preprocess.resolution)
    loaded = LoadedTeacher(tower, torch.nn.Identity(), network.preprocess)

    def embedder(split: Split) -> Embedder:
        identity = embeddings_identity(context.data, [split], {"student": planned.key})
        seed, device = context.recipe.seed, context.device_for(tower)
        batch = context.batch_size(device).images
        return Embedder(context.store, lambda: loaded, [split], PLAIN, seed, batch, identity, device=device)

    probe, ledger = fit_head(context, loaded, embedder, fit_feature_probe)
    tower.to(memory_format=torch.contiguous_format)
    network = replace(network, model=tower.with_head(probe.head))
    ledger = ledger.charge("probe: fit of the head", probe.macs)
    ledger = ledger.model_copy(update={"selected_on": "validation"})
    store_network(context, planned.id, folder, network, ledger, notes)
