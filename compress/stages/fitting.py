"""How stages fit networks: with a teacher's answers or without, every part of the compute in the training ledger."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.fx import GraphModule

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.measurement.compute import macs, training_macs
from compress.models.architecture import Architecture
from compress.models.checkpoints import load_variant
from compress.models.class_names import check_order, read_class_names
from compress.models.students import create_student
from compress.pipeline.plan import PlannedStage
from compress.recipe.data import PLAIN
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import DistillStage, TrainStage
from compress.stages.context import Metrics, StageContext, stored_head
from compress.stages.teacher_inputs import learnt_from
from compress.training.dead_taps import without_dead_taps
from compress.training.fit import fit
from compress.training.module import Fitting
from compress.training.teacher_cache import embed_views, verify
from compress.training.teacher_signal import CachedTeacher, OnlineTeacher, TeacherSignal

WORDS = {"prune": "repair", "sparsify": "repair", "quantize": "quantization-aware training"}
"""What the ledger calls the fit of a stage; else it is the student's."""


def fit_stage(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    model: nn.Module,
    architecture: Architecture,
    settings: Fit,
    ledger: Metrics,
    *callbacks: Callback,
) -> Metrics:
    """Fit a network to the teacher that the stage descends from, or to labels where there is none."""
    if unit.teacher and isinstance(settings, Distillation):
        return distil(work, unit, folder, model, architecture, settings, ledger, *callbacks)
    labelled = [work.data.train]
    return fit_network(work, unit, folder, model, architecture, settings, labelled, None, ledger, *callbacks)


def distil(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    model: nn.Module,
    architecture: Architecture,
    settings: Distillation,
    ledger: Metrics,
    *callbacks: Callback,
) -> Metrics:
    """Fit a network to the teacher that its stage descends from, and return the ledger with all of it."""
    assert unit.teacher
    teacher = work.folder(unit.teacher)
    splits, views = learnt_from(work.data, settings)
    answers: TeacherSignal
    if settings.teacher == "live":
        image_macs = work.metrics(unit.teacher)["inference"]["macs"]
        answers = OnlineTeacher(work.teacher(unit.teacher), stored_head(teacher), views, image_macs)
    else:
        answers = CachedTeacher(_embeddings(work, unit.teacher, splits, settings, views, ledger), stored_head(teacher))
    return fit_network(work, unit, folder, model, architecture, settings, splits, answers, ledger, *callbacks)


def _embeddings(
    work: StageContext, teacher: str, splits: Sequence[Split], settings: Distillation, views: int, ledger: Metrics
) -> list[Path]:
    """Files of the teacher's embeddings; those that the ledger does not hold yet are charged."""
    embedder = work.embedder(teacher, splits, settings.augment)
    files = embed_views(embedder, views)
    if settings.verify:
        verify(embedder, files, settings.verify)
    asked = f"{teacher}, {embedder.identity['splits']}, {'augmented' if settings.augment else 'plain'}"
    new, images = views - ledger["views"].get(asked, 0), len(embedder.images)
    if new > 0:
        cost = new * images * work.metrics(teacher)["inference"]["macs"]
        charge(ledger, f"teacher: {new} views of {images} images", cost)
        ledger["views"][asked] = views
    return files


def fit_network(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    model: nn.Module,
    architecture: Architecture,
    settings: Fit,
    splits: Sequence[Split],
    answers: TeacherSignal | None,
    ledger: Metrics,
    *callbacks: Callback,
) -> Metrics:
    """Fit a network in place, and return the ledger with what it took."""
    preprocess = architecture.preprocess
    chosen_on = work.data.test if settings.select_on == "test" else work.data.validation
    with without_dead_taps(model, preprocess.resolution):  # what is not computed is not counted either
        counted = _counted(work, unit, model)
        check_macs = macs(counted, preprocess.resolution)
        module = Fitting(
            model,
            preprocess,
            splits,
            chosen_on,
            work.recipe.data.views if settings.augment else PLAIN,
            settings,
            answers,
            seed=work.recipe.seed,
            image_macs=training_macs(counted, preprocess.resolution),
        )
        watching = work.watch.callbacks(unit.id)
        fitted = fit(module, work.recipe.trainer, folder / "scratch", unit.id, *callbacks, *watching)
    before, epochs = ledger["macs"], len(fitted.curve)
    what = WORDS.get(unit.stage.kind, "student")
    live = fitted.images * answers.image_macs if answers else 0
    seen = int(fitted.curve[-1]["macs"]) if fitted.curve else 0
    charge(ledger, f"{what}: forward and backward, {epochs} epochs", seen - live)
    if live:
        charge(ledger, f"teacher: live, {epochs} epochs", live)
    charge(ledger, f"{what}: validation after each epoch", epochs * len(chosen_on.images) * check_macs)
    # Apart from what the variant took: a run that was never stopped gives the same figures otherwise.
    ledger["interrupted"] += fitted.lost * (module.step_macs // module.step_images)
    ledger["diverged"] += fitted.diverged
    ledger["wall_s"] = round(ledger["wall_s"] + fitted.wall_s, 3)
    ledger["steps"] = fitted.steps
    if ledger["selected_on"] != "test":  # what was once chosen on the test images stays so through repair
        ledger["selected_on"] = settings.select_on
    ledger["curve"] = [{"macs": int(before + point["macs"]), "top1": point["top1"]} for point in fitted.curve]
    return ledger


def _counted(work: StageContext, unit: PlannedStage, model: nn.Module) -> nn.Module:
    """The network that is counted: of a graph with integers simulated in it, the float one that it was made of."""
    if not isinstance(model, GraphModule):
        return model
    assert unit.parent
    return load_variant(work.folder(unit.parent)).model


def new_student(work: StageContext, stage: TrainStage | DistillStage) -> tuple[nn.Module, Architecture]:
    """A new network as the stage says, with its `architecture.json`."""
    student = stage.student
    resolution = student.resolution or work.data.resolution
    if student.checkpoint:
        own = read_class_names(Path(student.checkpoint)) or ()
        check_order(own, work.data.classes, f"the student's checkpoint {student.checkpoint}")
    torch.manual_seed(work.recipe.seed if stage.seed is None else stage.seed)
    model = create_student(student, len(work.data.classes), resolution)
    preprocess = Preprocess(resolution=resolution, mean=student.mean, std=student.std, interpolation="bicubic")
    architecture = Architecture(
        library=student.library,
        model=student.model,
        options=student.options,
        classes=work.data.classes,
        resolution=resolution,
        preprocess=preprocess,
    )
    return model, architecture


def new_ledger(before: Metrics | None = None) -> Metrics:
    """A training ledger that starts with all that was spent on the variant it comes from."""
    start = before or {"macs": 0, "parts": [], "wall_s": 0.0, "views": {}}  # stored ones may lack `interrupted`
    return {
        "macs": start["macs"],
        "parts": list(start["parts"]),
        "interrupted": start.get("interrupted", 0),
        "diverged": list(start.get("diverged", [])),
        "wall_s": start["wall_s"],
        "views": dict(start["views"]),
        "curve": [],
        "selected_on": start.get("selected_on", "last"),
    }


def charge(ledger: Metrics, what: str, macs: int) -> None:
    """Add a part to a training ledger."""
    ledger["parts"].append({"what": what, "macs": int(macs)})
    ledger["macs"] += int(macs)
