"""Make the variant of a `match` stage, the control of a variant's training compute."""

from __future__ import annotations

import math
from pathlib import Path

from compress.measurement.compute import training_macs
from compress.models.architecture import Network
from compress.results import Ledger
from compress.stages.context import StageContext
from compress.stages.evaluation import store_network
from compress.stages.fitting import fit_stage, new_student
from compress.stages.match import MatchStage
from compress.stages.network import NetworkStage
from compress.stages.planned import PlannedStage
from compress.training.batches import epoch_images
from compress.training.dead_taps import without_dead_taps
from compress.training.freeze import freezing
from compress.utils.console import say


def make_matched(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Train the student of the baseline on labels for as much compute as the parent took."""
    stage = planned.stage
    assert isinstance(stage, MatchStage)
    baseline = context.plan.stage(stage.baseline).stage
    assert isinstance(baseline, NetworkStage)
    if stage.seed is not None:
        baseline = baseline.model_copy(update={"seed": stage.seed})
    network, _ = new_student(context, baseline)
    epochs = _matching_epochs(context, network, baseline, context.metrics(stage.from_).training.macs)
    say(f"  {planned.id}: {epochs} epochs match the training compute of {stage.from_}")
    settings = baseline.model_copy(update={"epochs": epochs, "patience": None})  # it never gets less
    ledger = fit_stage(context, planned, folder, network, settings, Ledger.start())
    store_network(context, planned.id, folder, network, ledger)


def _matching_epochs(context: StageContext, network: Network, settings: NetworkStage, spent: int) -> int:
    """Return the fewest epochs that take at least as much compute, without validation."""
    model, side = network.model, network.architecture.resolution
    with freezing(model, settings.freeze), without_dead_taps(model, side):
        image_macs = training_macs(model, side)
    images = epoch_images(len(context.data.train.images), settings.batch)
    return max(1, math.ceil(spent / (images * image_macs)))
