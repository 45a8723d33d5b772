"""Training settings: on labels, or by distillation from a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Section, StepShare
from compress.recipe.loss import Loss, Maps
from compress.recipe.losses import LOSS_TYPES, Losses, Mix
from compress.registry import PLUGIN_LOSSES
from compress.utils.messages import did_you_mean, join_words


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
    warmup: StepShare = Field(0.1, description="fraction of steps for linear warmup")
    weight_decay: float = Field(5e-4, ge=0, description="weight decay")
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="label smoothing")
    augment: bool = Field(True, description="augment images; false: every view is the plain image")
    mix: Mix | None = Field(None, description="mixup or CutMix")
    clip: float | None = Field(None, gt=0, description="gradient clipping norm; default: no clipping")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay per step of the exponential moving average of weights; default: no EMA"
    )
    freeze: list[str] = Field(
        [],
        exclude_if=lambda patterns: not patterns,  # recipes without it keep their store keys
        description="parameters and modules that are not trained, by name; * is a wildcard; batch norms in frozen "
        "modules keep their statistics",
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
    losses: Losses = Losses.model_validate({"ce": 1.0, "kd": 1.0})
    unlabeled: bool = Field(True, description="train on the unlabelled images too")
    classifier: Literal["own", "teacher"] = Field(
        "own", description="own: a new head; teacher: the teacher's head on projected features, folded into one layer"
    )

    @property
    def needs_projection(self) -> bool:
        """Whether the student's features are projected to the width of the teacher's embeddings."""
        return self.classifier == "teacher" or any(loss.trains_projection for loss in self.losses.named().values())

    @property
    def needs_features(self) -> bool:
        """Whether something reads the input of the student's classifier."""
        return self.needs_projection or any(loss.reads_features for loss in self.losses.named().values())


def reads_features(fit: Distillation) -> list[str]:
    """Return the names of the losses that read features or feature maps inside the student, sorted."""
    return sorted(name for name, loss in fit.losses.named().items() if loss.reads_features or isinstance(loss, Maps))


def distillation_problems(fit: Distillation, *, embeds: bool = False) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for losses and settings of a distillation that do not go together.

    A student that `embeds` ends in the teacher's embedding space, and its head is the teacher's.
    """
    losses = fit.losses.named()
    for name in fit.losses.own:
        if name not in PLUGIN_LOSSES:
            hint = did_you_mean(name, PLUGIN_LOSSES) or "; load its plugin with --plugin FILE.py"
            yield "losses", f"unknown plugin loss {name!r}{hint}"

    def trains_classifier(loss: Loss | type[Loss]) -> bool:
        return loss.trains_classifier or ((embeds or fit.classifier == "teacher") and loss.trains_projection)

    if not any(trains_classifier(loss) and max(loss.weight.start, loss.weight.end) > 0 for loss in losses.values()):
        able = join_words(sorted(name for name, kind in LOSS_TYPES.items() if trains_classifier(kind)))
        what = "embedding towards the teacher's" if embeds else "classifier"
        yield "losses", f"no loss trains the {what}; set a weight for {able}"
    if embeds and fit.classifier == "teacher":
        yield "classifier", "an embedding student has the teacher's head as it is; remove `classifier`"
    for name, loss in losses.items():
        if loss.online_only and fit.teacher == "stored":
            yield "losses", f"`{name}` {loss.online_only}; set `teacher: live`"
        if loss.cached_only and fit.teacher == "live":
            yield "losses", f"`{name}` {loss.cached_only}; set `teacher: stored`"
    if fit.verify and fit.teacher == "live":
        yield "verify", "`verify` checks cached embeddings; remove it or set `teacher: stored`"
