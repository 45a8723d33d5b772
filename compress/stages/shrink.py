"""The `shrink` stage, the control of a `prune` stage."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from compress.measurement.compute import macs, training_macs
from compress.models.checkpoints import changed_sizes, unpruned_network
from compress.pipeline.plan import PlannedStage
from compress.recipe.schema import Channels, DistillStage, ShrinkStage, TrainStage
from compress.stages.context import StageContext, write_network
from compress.stages.fitting import fit_stage, new_ledger, new_student
from compress.stages.teacher_inputs import learnt_from
from compress.training.dead_taps import without_dead_taps
from compress.utils.console import say


def make_shrunk(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """The pruned network's control: as narrow from the start, and trained for as much compute."""
    from compress.pruning.channels import prune_channels

    stage = unit.stage
    assert isinstance(stage, ShrinkStage) and unit.parent
    pruned = work.plan.unit(unit.parent)
    source = work.plan.first_fit(pruned)
    new = source.student.model_copy(update={"pretrained": False, "checkpoint": None})
    source = source.model_copy(update={"student": new, "seed": stage.seed})
    model, architecture = new_student(work, source)
    side = architecture.resolution
    share = (work.metrics(unit.parent)["inference"]["macs"] + 0.5) / macs(model, side)
    narrow = Channels(target_macs=share, importance="random", round_to=1)  # as near to its MACs as can be
    model = prune_channels(model, side, narrow)
    architecture = architecture.with_sizes(changed_sizes(model, unpruned_network(architecture)))
    epochs = _affordable_epochs(work, unit, model, side, source)
    say(f"  {unit.id}: {epochs} epochs take what {unit.parent} took")
    source = source.model_copy(update={"epochs": epochs})
    training = fit_stage(work, unit, folder, model, architecture, source, new_ledger())
    write_network(work, unit, folder, model, architecture, training)


def _affordable_epochs(
    work: StageContext, unit: PlannedStage, model: nn.Module, side: int, settings: TrainStage | DistillStage
) -> int:
    """Epochs of `settings` that come nearest to the training compute of the pruned network."""
    assert unit.parent
    left = work.metrics(unit.parent)["training"]["macs"]
    with without_dead_taps(model, side):
        forward, training = macs(model, side), training_macs(model, side)
    splits, views = [work.data.train], 0
    asked = 0
    if unit.teacher and isinstance(settings, DistillStage):
        splits, views = learnt_from(work.data, settings)
        asked = work.metrics(unit.teacher)["inference"]["macs"]
    images = sum(len(split.images) for split in splits)
    epoch = images * training + len(work.data.validation.images) * forward
    if views and settings.teacher == "live":  # type: ignore[union-attr]
        epoch += images * asked
    else:
        left -= views * images * asked
    return max(1, round(int(left) / int(epoch)))
