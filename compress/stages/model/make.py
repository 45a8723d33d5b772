"""Make the variant of a `model` stage: load the network, store it and evaluate it."""

from __future__ import annotations

from pathlib import Path

from compress.models.own import load_own_model
from compress.results import Ledger
from compress.stages.context import StageContext, store_network
from compress.stages.model import ModelStage
from compress.stages.planned import PlannedStage


def make_model(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Load the network, store it as a variant and evaluate it."""
    stage = planned.stage
    assert isinstance(stage, ModelStage)
    data = context.data
    network = load_own_model(stage.model, context.recipe.data, data.classes, data.resolution)
    store_network(context, planned.id, folder, network, Ledger.start())
