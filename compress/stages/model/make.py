"""Make the variant of a `model` stage: load the network, store it and evaluate it."""

from __future__ import annotations

import shutil
from pathlib import Path

from compress.models.own import load_own_model
from compress.models.own_files import own_model_files, variant_folder
from compress.results import Ledger, VariantMetrics
from compress.stages.context import METRICS, StageContext, evaluate_stored, store_network
from compress.stages.model import ModelStage
from compress.stages.planned import PlannedStage


def make_model(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Store the network as a variant and evaluate it."""
    stage = planned.stage
    assert isinstance(stage, ModelStage)
    if stage.model.source == "variant":
        _copy(context, planned.id, variant_folder(Path(stage.model.model)), own_model_files(stage.model), folder)
        return
    data = context.data
    network, notes = load_own_model(stage.model, context.recipe.data, data.classes, data.resolution)
    store_network(context, planned.id, folder, network, Ledger.start(), notes)


def _copy(context: StageContext, label: str, source: Path, files: list[Path], folder: Path) -> None:
    """Copy a stored variant with the cost of making it, and evaluate it on the data of this recipe."""
    for file in files:
        shutil.copy(file, folder)
    before = VariantMetrics.read(source / METRICS)
    details = {name: getattr(before, name) for name in ("pruning", "sparsity", "quantization")}
    ledger = Ledger.start(before.training)
    evaluate_stored(context, label, folder, ledger, before.inference, **{k: v for k, v in details.items() if v})
