"""Training settings: on labels, or by distillation from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Fraction, Section
from compress.recipe.losses import Kd, Loss, Losses, Mix
from compress.registry import PLUGIN_LOSSES
from compress.utils.messages import did_you_mean, listed


class Fit(Section):
    """Training hyperparameters."""

    seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of initial weights and batch order; default: the recipe's"
    )
    epochs: int = Field(30, ge=0, description="training epochs")
    batch: int = Field(128, ge=1, description="batch size over all devices")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="sgd uses Nesterov momentum 0.9")
    lr: float = Field(0.1, gt=0, description="peak learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="learning rate schedule after warmup")
    warmup: Fraction = Field(0.1, description="fraction of steps for linear warmup")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="label smoothing")
    augment: bool = Field(True, description="augment images; false: every view is the plain image")
    mix: Mix | None = Field(None, description="mixup or CutMix")
    clip: float | None = Field(None, gt=0, description="gradient clipping norm; default: no clipping")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay per step of the exponential moving average of weights; default: no EMA"
    )
    compile: bool = Field(False, description="use torch.compile; a CPU needs a C++ compiler and minutes to start")
    patience: int | None = Field(None, ge=1, description="early stopping: epochs without improvement on validation")
    select_on: Literal["last", "validation", "test"] = Field(
        "last", description="split used for checkpoint selection; last: no selection, keep the last epoch"
    )
    on_divergence: Literal["stop", "lower"] = Field(
        "stop", description="stop: fail; lower: restore the last good epoch and halve the learning rate"
    )


class Distillation(Fit):
    """Hyperparameters of distillation from a teacher."""

    teacher: Literal["stored", "live"] = Field(
        "stored", description="stored: cached teacher embeddings; live: run the teacher in every step"
    )
    views: int = Field(4, ge=1, description="augmented views per image")
    verify: int = Field(0, ge=0, description="cached embeddings to recompute and compare before training")
    losses: Losses = Losses(ce=Loss.of(1.0), kd=Kd.of(1.0))
    unlabeled: bool = Field(True, description="train on the unlabelled images too")
    classifier: Literal["own", "teacher"] = Field(
        "own", description="own: a new head; teacher: the teacher's head on projected features, folded into one layer"
    )


TRAIN_CLASSIFIER = {"ce", "kd", "dkd", "dist"}
TRAIN_PROJECTION = {"embedding", "crd"}
READ_FEATURES = {"embedding", "rkd_distance", "rkd_angle", "crd", "attention", "hint"}


def reads_features(fit: Distillation) -> list[str]:
    """Return the losses that read the student's features."""
    return sorted(set(fit.losses.named()) & READ_FEATURES)


def distillation_problems(fit: Distillation) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for losses that exclude each other or the teacher mode."""
    losses = fit.losses.named()
    weighted = {name for name, loss in losses.items() if max(loss.weight.start, loss.weight.end) > 0}
    trains_head = TRAIN_CLASSIFIER if fit.classifier == "own" else TRAIN_CLASSIFIER | TRAIN_PROJECTION
    for name in fit.losses.own:
        if name not in PLUGIN_LOSSES:
            hint = did_you_mean(name, PLUGIN_LOSSES) or "; load its plugin with --plugin FILE.py"
            yield "losses", f"unknown plugin loss {name!r}{hint}"
    if not trains_head & weighted and not fit.losses.own:
        yield "losses", f"no loss trains the classifier; set a weight for {listed(sorted(trains_head))}"
    for name in ("attention", "hint"):
        if name in losses and fit.teacher == "stored":
            yield "losses", f"`{name}` compares feature maps, which are not cached; set `teacher: live`"
    if "crd" in losses and fit.teacher == "live":
        yield "losses", "`crd` samples negatives from cached embeddings; set `teacher: stored`"
    if fit.verify and fit.teacher == "live":
        yield "verify", "`verify` checks cached embeddings; remove it or set `teacher: stored`"
