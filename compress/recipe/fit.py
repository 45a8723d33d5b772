"""How a recipe trains a network: on labels, or on the outputs of a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Fraction, Section
from compress.recipe.loss import Loss, Maps
from compress.recipe.losses import LOSS_TYPES, Losses, Mix
from compress.registry import PLUGIN_LOSSES
from compress.utils.messages import did_you_mean, listed


class Fit(Section):
    """How a network is fitted."""

    seed: int | None = Field(
        None, ge=0, lt=2**31, description="of first weights and order; without it, the recipe's, as for data and views"
    )
    epochs: int = Field(30, ge=0)
    batch: int = Field(128, ge=1, description="images of a step, of all devices together")
    optimizer: Literal["sgd", "adam", "adamw"] = Field("sgd", description="sgd is with Nesterov momentum 0.9")
    lr: float = Field(0.1, gt=0, description="highest learning rate")
    schedule: Literal["cosine", "constant"] = Field("cosine", description="from the highest rate to 0, or none")
    warmup: Fraction = Field(0.1, description="share of the steps over which the rate rises")
    weight_decay: float = Field(5e-4, ge=0)
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    augment: bool = Field(True, description="false: every view is the image as it is")
    mix: Mix | None = Field(None, description="images mixed in pairs")
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient")
    ema: float | None = Field(
        None, gt=0, lt=1, description="decay a step of the weights' moving average, which is kept"
    )
    compile: bool = Field(False, description="torch.compile: needs a C++ compiler on a CPU, minutes at the start")
    patience: int | None = Field(None, ge=1, description="stop after so many epochs without a better validation")
    select_on: Literal["last", "validation", "test"] = Field("last", description="whose best epoch is kept")
    on_divergence: Literal["stop", "lower"] = Field(
        "stop", description="of the loss: stop, or go back to the last good epoch and on at half the rate"
    )


class Distillation(Fit):
    """How a network is fitted to a teacher."""

    teacher: Literal["stored", "live"] = Field("stored", description="embed each view once and keep it, or each time")
    views: int = Field(4, ge=1, description="views an image")
    verify: int = Field(0, ge=0, description="stored embeddings to compute again before they are relied on")
    losses: Losses = Losses.model_validate({"ce": 1.0, "kd": 1.0})
    unlabeled: bool = Field(True, description="whether the unlabelled images are learnt from too")
    classifier: Literal["own", "teacher"] = Field(
        "own", description="teacher: the features, projected, go through the teacher's head, folded into one layer"
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


def distillation_problems(fit: Distillation) -> Iterator[tuple[str, str]]:
    """Find losses and settings of a distillation that do not go together.

    Yields:
        The key that is wrong, and a message.
    """
    losses = fit.losses.named()
    for name in fit.losses.own:
        if name not in PLUGIN_LOSSES:
            hint = did_you_mean(name, PLUGIN_LOSSES) or "; load its plugin with --plugin FILE.py"
            yield "losses", f"unknown plugin loss {name!r}{hint}"

    def trains_classifier(loss: Loss | type[Loss]) -> bool:
        return loss.trains_classifier or (fit.classifier == "teacher" and loss.trains_projection)

    if not any(trains_classifier(loss) and max(loss.weight.start, loss.weight.end) > 0 for loss in losses.values()):
        able = listed(sorted(name for name, kind in LOSS_TYPES.items() if trains_classifier(kind)))
        yield "losses", f"no loss trains the classifier; give a weight to {able}"
    for name, loss in losses.items():
        if loss.online_only and fit.teacher == "stored":
            yield "losses", f"`{name}` {loss.online_only}; set `teacher: live`"
        if loss.cached_only and fit.teacher == "live":
            yield "losses", f"`{name}` {loss.cached_only}; set `teacher: stored`"
    if fit.verify and fit.teacher == "live":
        yield "verify", "`verify` checks cached embeddings, which `teacher: live` has none of; remove it"
