"""What each kind of stage does: from entries of the store to a new one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.measurement.compute import bit_operations, layer_macs, macs, parameters, training_macs
from compress.models.checkpoints import changed_sizes, load_variant, plain_network, save_variant
from compress.models.probe import fit_probe
from compress.models.students import create_student
from compress.models.teachers import LoadedTeacher
from compress.pipeline.plan import Unit
from compress.pipeline.work import (
    Metrics,
    Work,
    float_inference,
    parts,
    stored_head,
    test_logits,
    write_network,
    write_variant,
)
from compress.progress import say
from compress.recipe.schema import (
    PLAIN,
    Distillation,
    DistillStage,
    Fit,
    OpenClipTeacher,
    PruneStage,
    QuantizeStage,
    Student,
    TeacherStage,
    TrainStage,
)
from compress.training.answers import Answers, Live, Stored
from compress.training.dead_taps import without_dead_taps
from compress.training.embeddings import embed_views, verify
from compress.training.fit import fit
from compress.training.module import Fitting


def make_teacher(work: Work, unit: Unit, folder: Path) -> None:
    """Measure the teacher, and keep its head for those who learn from it."""
    loaded = work.teacher(unit.id)
    training = _ledger()
    stage = unit.stage
    assert isinstance(stage, TeacherStage)
    if isinstance(stage.teacher, OpenClipTeacher) and stage.teacher.head == "probe":
        loaded = replace(loaded, head=_probe(work, unit, loaded, training))
    if isinstance(loaded.head, nn.Linear):
        save_file(loaded.head.state_dict(), folder / "head.safetensors")
    model = loaded.classifier()
    logits = test_logits(model, loaded.preprocess, work.data.test, unit.id)
    size = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    write_variant(folder, work, logits, float_inference(model, loaded.preprocess, size), training)


def _probe(work: Work, unit: Unit, loaded: LoadedTeacher, ledger: Metrics) -> nn.Linear:
    """A probe on the embeddings of the labelled train images as they are, its strength chosen on validation."""
    sides = []
    for split in (work.data.train, work.data.validation):
        (file,) = embed_views(work.embedder(unit.id, [split], augment=False), 1)
        assert split.labels is not None
        sides.append((torch.from_numpy(np.load(file)), torch.from_numpy(np.array(split.labels))))
    probe = fit_probe(sides[0], sides[1], len(work.data.classes))
    say(f"  probe: weight decay {probe.strength:.1e}, {probe.top1:.1%} on validation")
    images = len(work.data.train) + len(work.data.validation)
    _charge(ledger, f"probe: embeddings of {images} images", images * macs(loaded.tower, loaded.preprocess.resolution))
    return probe.head


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
    learn_unlabeled = settings.unlabeled and len(work.data.unlabeled.images) > 0
    splits = [work.data.train, work.data.unlabeled] if learn_unlabeled else [work.data.train]
    images = sum(len(split.images) for split in splits)
    head, per_image = stored_head(work.folder(stage.id)), work.metrics(stage.id)["inference"]["macs"]
    views = settings.views if settings.augment else 1
    if settings.teacher == "live":
        answers: Answers = Live(work.teacher(stage.id), head, views)
        training = _fit(work, unit, folder, model, architecture, settings, splits, answers, ledger)
        _charge(training, f"teacher: live, {len(training['curve'])} epochs", training["images"] * per_image)
        return training
    embedder = work.embedder(stage.id, splits, settings.augment)
    files = embed_views(embedder, views)
    if settings.verify:
        verify(embedder, files, settings.verify)
    new = views - ledger["views"].get(stage.id, 0)
    if new > 0:
        _charge(ledger, f"teacher: {new} views of {images} images", new * images * per_image)
        ledger["views"][stage.id] = views
    return _fit(work, unit, folder, model, architecture, settings, splits, Stored(files, head), ledger)


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
    with without_dead_taps(model, preprocess.resolution):  # what is not computed is not counted either
        check_macs = macs(model, preprocess.resolution)
        chosen_on = work.data.test if settings.select_on == "test" else work.data.validation
        module = Fitting(
            model,
            preprocess,
            splits,
            chosen_on,
            work.recipe.data.views if settings.augment else PLAIN,
            settings,
            answers,
            seed=work.recipe.seed,
            image_macs=training_macs(model, preprocess.resolution),
        )
        fitted = fit(module, work.recipe.trainer, folder / "scratch", unit.id)
    before = ledger["macs"]
    what = "repair" if unit.stage.kind == "prune" else "student"
    seen = int(fitted.curve[-1]["macs"]) if fitted.curve else 0
    epochs = len(fitted.curve)
    checks = epochs * len(chosen_on.images) * check_macs
    _charge(ledger, f"{what}: forward and backward, {epochs} epochs", seen)
    _charge(ledger, f"{what}: validation after each epoch", checks)
    ledger["wall_s"] = round(ledger["wall_s"] + fitted.wall_s, 3)
    ledger["steps"] = fitted.steps
    ledger["images"] = fitted.images
    if ledger["selected_on"] != "test":  # what was once chosen on the test images stays so through repair
        ledger["selected_on"] = settings.select_on
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
        "images": 0,
        "selected_on": start.get("selected_on", "last"),
    }


def _charge(ledger: Metrics, what: str, macs: int) -> None:
    ledger["parts"].append({"what": what, "macs": int(macs)})
    ledger["macs"] += int(macs)
