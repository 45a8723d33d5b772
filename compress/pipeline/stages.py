"""What each kind of stage does: from entries of the store to a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.measurement.compute import bit_operations, layer_macs, macs, parameters, training_macs
from compress.models.checkpoints import changed_sizes, load_variant, plain_network, save_variant
from compress.models.identity import teacher_weights_id
from compress.models.students import create_student
from compress.pipeline.plan import TEACHER_PACKAGES, Unit, version_of
from compress.pipeline.work import (
    Metrics,
    Work,
    float_inference,
    parts,
    test_logits,
    write_network,
    write_variant,
)
from compress.recipe.schema import (
    Distillation,
    DistillStage,
    Fit,
    PruneStage,
    QuantizeStage,
    Student,
    TeacherStage,
    TrainStage,
)
from compress.training.dead_taps import without_dead_taps
from compress.training.embeddings import embed_views
from compress.training.fit import fit
from compress.training.module import Answers, Fitting


def make_teacher(work: Work, unit: Unit, folder: Path) -> None:
    """Measure the teacher, and keep its head for those who learn from it."""
    loaded = work.teacher(unit.id)
    if isinstance(loaded.head, nn.Linear):
        save_file(loaded.head.state_dict(), folder / "head.safetensors")
    model = loaded.classifier()
    logits = test_logits(model, loaded.preprocess, work.data.test, unit.id)
    training = {"macs": 0, "parts": [], "wall_s": 0.0, "curve": [], "views": {}}
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    write_variant(folder, work, logits, float_inference(model, loaded.preprocess, size), training)


def make_trained(work: Work, unit: Unit, folder: Path) -> None:
    """Supervised training of a new student on the labelled images."""
    stage = unit.stage
    assert isinstance(stage, TrainStage)
    model, architecture = _new_student(work, stage.student)
    training = _fit(work, unit, folder, model, architecture, stage, [work.data.train], None, _ledger())
    write_network(work, unit, folder, model, architecture, training)


def make_distilled(work: Work, unit: Unit, folder: Path) -> None:
    """Distillation of the teacher into a new student, on labelled and unlabelled images."""
    stage = unit.stage
    assert isinstance(stage, DistillStage)
    model, architecture = _new_student(work, stage.student)
    training = _distil(work, unit, folder, model, architecture, stage, _ledger())
    write_network(work, unit, folder, model, architecture, training)


def make_pruned(work: Work, unit: Unit, folder: Path) -> None:
    """Removal of channels, then repair."""
    from compress.pruning.channels import prune_channels

    stage = unit.stage
    assert isinstance(stage, PruneStage) and unit.parent
    dense, architecture = load_variant(work.folder(unit.parent))
    model = prune_channels(dense, architecture["resolution"], stage.target_macs, stage.round_to)
    architecture = {**architecture, "sizes": changed_sizes(model, plain_network(architecture))}
    ledger = _ledger(work.metrics(unit.parent)["training"])
    if unit.teacher:
        training = _distil(work, unit, folder, model, architecture, stage.repair, ledger)
    else:
        training = _fit(work, unit, folder, model, architecture, stage.repair, [work.data.train], None, ledger)
    write_network(work, unit, folder, model, architecture, training)


def make_quantized(work: Work, unit: Unit, folder: Path) -> None:
    """Static INT8, calibrated on train images."""
    from compress.quantization.capture import layer_bits, quantized_convolutions
    from compress.quantization.post_training import quantize
    from compress.quantization.rebuild import record

    stage = unit.stage
    assert isinstance(stage, QuantizeStage) and unit.parent
    model, architecture = load_variant(work.folder(unit.parent))
    preprocess = Preprocess.from_dict(architecture["preprocess"])
    images = work.data.train.images
    chosen = np.random.default_rng(work.recipe.seed).permutation(len(images))[: stage.calibration_images]
    example = torch.zeros(2, 3, preprocess.resolution, preprocess.resolution)
    batches = (preprocess(torch.from_numpy(images[np.sort(part)])) for part in parts(chosen, 64))
    with torch.inference_mode(False), torch.no_grad():
        converted = quantize(model, batches, example)
    state, scales = record(converted)
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    architecture = {
        **architecture,
        "quantization": {"method": "torchao-pt2e", "scales": scales, "float_shapes": shapes},
    }
    save_variant(folder, architecture, state)

    layers = layer_macs(model, preprocess.resolution)
    quantized, total = quantized_convolutions(converted)
    bits = layer_bits(converted)
    inference = {
        "macs": sum(layers.values()),
        "bit_operations": bit_operations(layers, bits),
        "params": parameters(model),
        "bytes": (folder / "model.safetensors").stat().st_size,
        "weight_bits": 8,
        "activation_bits": 8,
        "quantized_convs": quantized,
        "total_convs": total,
    }
    ledger = _ledger(work.metrics(unit.parent)["training"])
    _charge(ledger, f"calibration on {len(chosen)} images", len(chosen) * sum(layers.values()))
    write_variant(folder, work, test_logits(converted, preprocess, work.data.test, unit.id), inference, ledger)


MAKERS: dict[str, Callable[[Work, Unit, Path], None]] = {
    "teacher": make_teacher,
    "train": make_trained,
    "distill": make_distilled,
    "prune": make_pruned,
    "quantize": make_quantized,
}


def _new_student(work: Work, student: Student) -> tuple[nn.Module, dict[str, Any]]:
    resolution = student.resolution or work.data.resolution
    torch.manual_seed(work.recipe.seed)
    model = create_student(student, len(work.data.classes), resolution)
    preprocess = Preprocess(resolution=resolution, mean=student.mean, std=student.std, interpolation="bicubic")
    architecture = {
        "library": student.library,
        "model": student.model,
        "options": student.options,
        "classes": list(work.data.classes),
        "resolution": resolution,
        "preprocess": preprocess.to_dict(),
        "sizes": {},
    }
    return model, architecture


def _distil(
    work: Work,
    unit: Unit,
    folder: Path,
    model: nn.Module,
    architecture: dict[str, Any],
    settings: Distillation,
    ledger: Metrics,
) -> Metrics:
    assert unit.teacher
    stage = work.plan.unit(unit.teacher).stage
    assert isinstance(stage, TeacherStage)
    splits = [work.data.train, work.data.unlabeled] if len(work.data.unlabeled.images) else [work.data.train]
    identity = {"data": work.data.key, "weights": teacher_weights_id(stage.teacher)}
    identity |= {name: str(version_of(name)) for name in TEACHER_PACKAGES}
    files = embed_views(
        work.store,
        lambda: work.teacher(stage.id),
        splits,
        work.recipe.data.views,
        count=settings.views,
        seed=work.recipe.seed,
        batch=stage.teacher.batch,
        identity=identity,
    )
    images = sum(len(split.images) for split in splits)
    new = settings.views - ledger["views"].get(stage.id, 0)
    if new > 0:
        cost = new * images * work.metrics(stage.id)["inference"]["macs"]
        _charge(ledger, f"teacher: {new} views of {images} images", cost)
        ledger["views"][stage.id] = settings.views
    answers = Answers(files, _stored_head(work.folder(stage.id)))
    return _fit(work, unit, folder, model, architecture, settings, splits, answers, ledger)


def _stored_head(folder: Path) -> nn.Module:
    path = folder / "head.safetensors"
    if not path.exists():
        return nn.Identity()
    weights = load_file(path)
    classes, width = weights["weight"].shape
    head = nn.Linear(width, classes)
    head.load_state_dict(weights)
    return head


def _fit(
    work: Work,
    unit: Unit,
    folder: Path,
    model: nn.Module,
    architecture: dict[str, Any],
    settings: Fit,
    splits: Sequence[Split],
    answers: Answers | None,
    ledger: Metrics,
) -> Metrics:
    preprocess = Preprocess.from_dict(architecture["preprocess"])
    with without_dead_taps(model, preprocess.resolution):  # as `fit` does: what is not computed is not counted
        image_macs = training_macs(model, preprocess.resolution)
        check_macs = macs(model, preprocess.resolution)
    module = Fitting(
        model,
        preprocess,
        splits,
        work.data.validation,
        work.recipe.data.views,
        settings,
        answers,
        seed=work.recipe.seed,
        image_macs=image_macs,
    )
    before = ledger["macs"]
    fitted = fit(module, work.recipe.trainer, folder / "scratch", unit.id)
    what = "repair" if unit.stage.kind == "prune" else "student"
    seen = int(fitted.curve[-1]["macs"]) if fitted.curve else 0
    checks = settings.epochs * len(work.data.validation.images) * check_macs
    _charge(ledger, f"{what}: forward and backward, {settings.epochs} epochs", seen)
    _charge(ledger, f"{what}: validation after each epoch", checks)
    ledger["wall_s"] = round(ledger["wall_s"] + fitted.wall_s, 3)
    ledger["steps"] = fitted.steps
    ledger["curve"] = [{"macs": int(before + point["macs"]), "top1": point["top1"]} for point in fitted.curve]
    return ledger


def _ledger(before: Metrics | None = None) -> Metrics:
    """A training ledger that starts with all that was spent on the variant it comes from."""
    start = before or {"macs": 0, "parts": [], "wall_s": 0.0, "views": {}}
    return {
        "macs": start["macs"],
        "parts": list(start["parts"]),
        "wall_s": start["wall_s"],
        "views": dict(start["views"]),
        "curve": [],
    }


def _charge(ledger: Metrics, what: str, macs: int) -> None:
    ledger["parts"].append({"what": what, "macs": int(macs)})
    ledger["macs"] += int(macs)
