"""Training of stages, with or without a teacher; all compute is charged to the training ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.fx import GraphModule

from compress.data.prepared import Split
from compress.measurement.batch_size import free_memory
from compress.measurement.compute import macs, training_macs
from compress.models.architecture import Network
from compress.models.eager import stored_head
from compress.models.embedding import encoder_of
from compress.models.fingerprint import views_settings
from compress.models.students import load_embedding_student, load_student
from compress.recipe.data import PLAIN, Views
from compress.recipe.fit import Distillation, Fit
from compress.results import CurvePoint, Divergence, Ledger
from compress.stages.context import StageContext
from compress.stages.embeddings import class_list, store_teacher_embeddings
from compress.stages.evaluation import store_network
from compress.stages.network import NetworkStage
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import training_views
from compress.training.dead_taps import without_dead_taps
from compress.training.embedding_devices import Shard
from compress.training.embedding_shards import EmbeddedView
from compress.training.fit import FitResult, fit
from compress.training.freeze import freezing
from compress.training.module import FitModule
from compress.training.teacher_cache import embed_views, shards_of, verify
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher, TeacherSignal
from compress.utils.hashing import key_of


@dataclass(frozen=True)
class _TrainingInputs:
    """Training splits, teacher outputs for them, and the ledger that includes the cost of the outputs."""

    splits: Sequence[Split]
    teacher: TeacherSignal | None
    ledger: Ledger


def fit_stage(
    context: StageContext,
    planned: PlannedStage,
    folder: Path,
    network: Network,
    settings: Fit,
    ledger: Ledger,
    *callbacks: Callback,
) -> Ledger:
    """Train a network in place: by distillation if the stage descends from a teacher, else on labels.

    Args:
        context: Context of the run.
        planned: The stage.
        folder: Folder for training checkpoints, below `scratch/`.
        network: Network to train.
        settings: Training settings.
        ledger: Compute spent on the network before.
        callbacks: Additional Lightning callbacks.

    Returns:
        The ledger, charged with the training.
    """
    if planned.teacher and isinstance(settings, Distillation) and settings.epochs:
        inputs = _teacher_inputs(context, planned.teacher, settings, ledger)
    else:
        inputs = _TrainingInputs([context.data.train], None, ledger)
    return _train(context, planned, folder, network, settings, inputs, callbacks)


def _teacher_inputs(context: StageContext, teacher: str, settings: Distillation, ledger: Ledger) -> _TrainingInputs:
    head = stored_head(context.folder(teacher))
    splits, views = training_views(context.data, settings)
    if settings.teacher == "live":
        image_macs = context.metrics(teacher).inference.macs
        return _TrainingInputs(splits, OnlineTeacher(context.teacher(teacher), head, views, image_macs), ledger)
    embedded, ledger = _embeddings(context, teacher, splits, settings, views, ledger)
    return _TrainingInputs(splits, CachedTeacher(embedded, head), ledger)


def _embeddings(
    context: StageContext, teacher: str, splits: Sequence[Split], settings: Distillation, views: int, ledger: Ledger
) -> tuple[list[EmbeddedView], Ledger]:
    """Return the teacher's embeddings, and the ledger charged with those not in it yet."""
    embedded, identity = _embedded(context, teacher, splits, settings, views)
    free_memory()  # of the teachers, which `_embedded` alone has held
    # By content: the ledger may come from a recipe in which the teacher has another id.
    name = key_of(**identity, **views_settings(_views(context, settings), context.recipe.seed))
    new, images = views - ledger.views.get(name, 0), sum(len(split.images) for split in splits)
    if new > 0:
        cost = new * images * context.metrics(teacher).inference.macs
        ledger = ledger.charge(f"teacher: {new} views of {images} images", cost)
        ledger = ledger.model_copy(update={"views": {**ledger.views, name: views}})
    return embedded, ledger


def _views(context: StageContext, settings: Fit) -> Views:
    """Return the augmentation of a fit."""
    return context.recipe.data.views if settings.augment else PLAIN


def _embedded(
    context: StageContext, teacher: str, splits: Sequence[Split], settings: Distillation, views: int
) -> tuple[list[EmbeddedView], dict[str, str]]:
    """Return the teacher's embeddings, verified, and what determines them; its networks end with this call."""
    embedders = context.embedders(teacher, splits, settings.augment, precision=context.recipe.trainer.precision)
    embedded = embed_views(embedders, views)
    if settings.verify:
        verify(embedders[0], embedded, settings.verify)
    return embedded, embedders[0].identity


def embedding_shards(context: StageContext, planned: PlannedStage) -> list[Shard]:
    """Return the shards of teacher embeddings that a stage needs, for processes that help its maker."""
    found: list[Shard] = []
    for _, settings in planned.stage.fits():
        if planned.teacher and isinstance(settings, Distillation) and settings.teacher != "live":
            splits, views = training_views(context.data, settings)
            precision = context.recipe.trainer.precision
            embedders = context.embedders(planned.teacher, splits, settings.augment, precision=precision)
            found += [shard for view in shards_of(embedders, views) for shard in view]
    return found


def _train(
    context: StageContext,
    planned: PlannedStage,
    folder: Path,
    network: Network,
    settings: Fit,
    inputs: _TrainingInputs,
    callbacks: Sequence[Callback],
) -> Ledger:
    model, preprocess, teacher = network.classifier, network.preprocess, inputs.teacher
    selected = "test" if settings.select_on == "test" else "validation"
    validation, _ = context.rendered(selected, preprocess)
    # Gradients and taps that are not computed are not counted either.
    with freezing(model, settings.freeze), without_dead_taps(model, preprocess.resolution):
        counted = _countable(context, planned, model)
        forward_macs = macs(counted, preprocess.resolution)
        module = FitModule(
            model,
            preprocess.on_stored(),
            inputs.splits,
            validation,
            _views(context, settings),
            settings,
            teacher,
            seed=context.recipe.seed,
            image_macs=training_macs(counted, preprocess.resolution),
        )
        loggers = context.loggers.callbacks(planned.id)
        scratch, chooser = folder / "scratch", context.chooser
        fitted = fit(module, context.recipe.trainer, scratch, planned.id, *callbacks, *loggers, chooser=chooser)
    online_macs = fitted.images * teacher.image_macs if teacher else 0
    validation_macs = len(fitted.curve) * len(validation.images) * forward_macs
    lost = fitted.lost_images * (module.step_macs // module.step_images)
    label = planned.stage.fit_label
    return _charged(inputs.ledger, label, fitted, settings, online_macs, validation_macs, lost)


def _charged(
    ledger: Ledger, label: str, fitted: FitResult, settings: Fit, online_macs: int, validation_macs: int, lost: int
) -> Ledger:
    """Charge a training to the ledger."""
    before, epochs = ledger.macs, len(fitted.curve)
    spent = int(fitted.curve[-1]["macs"]) if fitted.curve else 0
    ledger = ledger.charge(f"{label}: forward and backward, {epochs} epochs", spent - online_macs)
    if online_macs:
        ledger = ledger.charge(f"teacher: live, {epochs} epochs", online_macs)
    ledger = ledger.charge(f"{label}: validation after each epoch", validation_macs)
    return ledger.model_copy(
        update={
            # Kept apart, so that all other figures equal those of an uninterrupted run.
            "interrupted": (ledger.interrupted or 0) + lost,
            "diverged": (*ledger.diverged, *(Divergence.model_validate(each) for each in fitted.diverged)),
            "wall_s": round(ledger.wall_s + fitted.wall_s, 3),
            "steps": fitted.steps,
            "precision": fitted.precision,
            # Selection on the test split carries over to variants made from this one.
            "selected_on": "test" if ledger.selected_on == "test" else settings.select_on,
            "curve": tuple(
                CurvePoint(macs=int(before + p["macs"]), top1=p["top1"], right=p.get("right")) for p in fitted.curve
            ),
        }
    )


def _countable(context: StageContext, planned: PlannedStage, model: nn.Module) -> nn.Module:
    """Return the network to count MACs of: for a quantization-aware graph, its float parent."""
    is_graph = isinstance(encoder_of(model), GraphModule)
    return context.parent_network(planned.parent).classifier if is_graph else model


def new_student(context: StageContext, stage: NetworkStage) -> tuple[Network, tuple[str, ...]]:
    """Create the initial network of a stage, with notes about its weights.

    Raises:
        CompressError: its checkpoint cannot be loaded, or is for other classes.
    """
    torch.manual_seed(context.recipe.seed if stage.seed is None else stage.seed)
    classes, side = context.data.classes, context.data.resolution
    if stage.embeds:
        (teacher,) = stage.parents()
        listed = class_list(context, stored_head(context.folder(teacher)), *classes)
        return load_embedding_student(stage.student, listed, side)
    replaced = stage.epochs > 0 or stage.student.head == "probe"
    return load_student(stage.student, classes, side, new_head=replaced)


def make_network(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Create, train and store the student of a stage."""
    stage = planned.stage
    assert isinstance(stage, NetworkStage)
    network, notes = new_student(context, stage)
    ledger = fit_stage(context, planned, folder, network, stage, Ledger.start())
    if stage.embeds:
        store_teacher_embeddings(context, planned, folder)
    store_network(context, planned.id, folder, network, ledger, notes)
