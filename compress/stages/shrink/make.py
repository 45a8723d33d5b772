"""Make the variant of a `shrink` stage, the control of a `prune` stage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from compress.measurement.compute import macs, training_macs
from compress.measurement.device import with_devices
from compress.models.architecture import Network
from compress.models.checkpoints import changed_sizes, unpruned_network
from compress.models.eager import stored_head
from compress.pruning.search import prune_channels
from compress.recipe.channels import Channels
from compress.recipe.fit import Distillation, Fit
from compress.results import Ledger
from compress.stages.context import StageContext
from compress.stages.evaluation import store_network
from compress.stages.fitting import fit_stage
from compress.stages.network import NetworkStage
from compress.stages.planned import PlannedStage
from compress.stages.shrink import ShrinkStage
from compress.stages.teacher_inputs import training_views
from compress.training.batches import epoch_images, step_images
from compress.training.dead_taps import without_dead_taps
from compress.training.objective import Objective, make_objective
from compress.training.teacher_signal import OnlineTeacher
from compress.utils.console import say


def make_shrunk(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Train a uniformly narrow network with the MACs of the pruned one, for the same training compute."""
    stage = planned.stage
    assert isinstance(stage, ShrinkStage) and planned.parent
    wide, settings = _dense(context, stage, context.plan.stage(planned.parent))
    side = wide.architecture.resolution
    pruned = context.parent_network(planned.parent).model
    share = (macs(pruned, side) + 0.5) / macs(wide.model, side)
    narrow = Channels(target_macs=share, importance="random", round_to=1)  # as close to its MACs as possible
    model = prune_channels(wide.model, side, narrow)
    sizes = changed_sizes(model, unpruned_network(wide.architecture))
    network = replace(wide, model=model, architecture=wide.architecture.with_sizes(sizes))
    epochs = _affordable_epochs(context, planned, network, settings)
    say(f"  {planned.id}: {epochs} epochs match the training compute of {planned.parent}")
    ledger = fit_stage(context, planned, folder, network, _whole(settings, epochs), Ledger.start())
    store_network(context, planned.id, folder, network, ledger)


def _dense(context: StageContext, stage: ShrinkStage, pruned: PlannedStage) -> tuple[Network, Fit]:
    """Create the network that was pruned with random weights, and return how it was trained.

    A network that this run did not train, also a probe, is trained with the settings of the repair.
    """
    torch.manual_seed(context.recipe.seed if stage.seed is None else stage.seed)
    pruned_from = context.parent_network(pruned.parent)
    architecture = pruned_from.architecture.with_sizes({})
    network = replace(pruned_from, model=unpruned_network(architecture).eval(), architecture=architecture)
    origin = context.plan.origin(pruned).stage
    if isinstance(origin, NetworkStage) and any(origin.fits()):
        return network, origin.model_copy(update={"seed": stage.seed})
    (_, repair) = next(iter(pruned.stage.fits()))
    return network, repair if stage.seed is None else repair.model_copy(update={"seed": stage.seed})


def _whole(settings: Fit, epochs: int) -> Fit:
    """Return settings to train all of a network, whose weights are random, for all epochs, or it had less compute."""
    return settings.model_copy(update={"epochs": epochs, "freeze": [], "patience": None})


def _affordable_epochs(context: StageContext, planned: PlannedStage, network: Network, settings: Fit) -> int:
    """Return the number of epochs closest to the training compute of the pruned network."""
    assert planned.parent
    model, side = network.classifier, network.architecture.resolution
    with without_dead_taps(model, side):
        forward, training = macs(model, side), training_macs(model, side)
    splits, teacher_macs, views = [context.data.train], 0, 0
    if planned.teacher and isinstance(settings, Distillation):
        splits, _ = training_views(context.data, settings)
        teacher_macs = context.metrics(planned.teacher).inference.macs
        views = settings.views if settings.augment else 1
    images = sum(len(split.images) for split in splits)
    world = with_devices(context.recipe.trainer).least_processes
    trained = epoch_images(images, settings.batch, world)
    epoch = trained * training + len(context.data.validation.images) * forward
    if planned.teacher and isinstance(settings, Distillation):
        step = step_images(images, settings.batch, world)
        losses = _objective(context, planned.teacher, network, settings).step_macs(step // world)
        epoch += trained // step * world * losses
    if isinstance(settings, Distillation) and settings.teacher == "live":
        epoch, views = epoch + trained * teacher_macs, 0
    return epochs_for(context.metrics(planned.parent).training.macs, epoch, images * teacher_macs, views)


def _objective(context: StageContext, teacher: str, network: Network, settings: Distillation) -> Objective:
    """Return what a distillation trains beside the network, and its losses."""
    signal = OnlineTeacher(context.teacher(teacher), stored_head(context.folder(teacher)), settings.views)
    return make_objective(settings, network.classifier, network.preprocess.on_stored(), signal, seed=0)


def epochs_for(spent: int, epoch: int, view: int, views: int) -> int:
    """Return the number of epochs, at least 1, whose compute is closest to `spent`.

    Args:
        spent: MACs to match.
        epoch: MACs of an epoch.
        view: MACs of a teacher's view of all images, which each of the first `views` epochs needs too.
        views: Number of these views at most.
    """
    few = spent / (epoch + view)
    return max(1, round(few if few <= views else (spent - views * view) / epoch))
