"""The objective of a distillation: the weighted sum of the losses that a recipe names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from compress.recipe.fit import Distillation
from compress.registry import PLUGIN_LOSSES
from compress.training import losses

DISTANCES = {"cosine": losses.cosine, "mse": losses.mse, "smooth_l1": losses.smooth_l1}


def projects(settings: Distillation) -> bool:
    """Whether the student's features are projected to the width of the teacher's embeddings."""
    losses = settings.losses
    return settings.classifier == "teacher" or losses.embedding is not None or losses.crd is not None


def reads_features(settings: Distillation) -> bool:
    """Whether a loss looks at what the student's classifier reads."""
    losses = settings.losses
    return projects(settings) or losses.rkd_distance is not None or losses.rkd_angle is not None


@dataclass(frozen=True)
class Step:
    """What losses may look at in a step; b images, of which those without a label have -1.

    Attributes:
        logits: the student's, `[b, classes]`.
        features: what its classifier reads, `[b, features]`, where a loss looks at it.
        told: the teacher's embeddings `[b, width]`.
        labels: int64 `[b]`.
        progress: share of all steps that is done, 0 to 1.
        others: draws embeddings of other images, `[count, width]`.
        maps: feature maps by loss, of student and teacher.
        smoothing: of the labels.
    """

    logits: Tensor
    features: Tensor
    told: Tensor
    labels: Tensor
    progress: float
    others: Callable[[int], Tensor] | None = None
    maps: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    smoothing: float = 0.0


class Objective(nn.Module):
    """Sums the losses; keeps what they learn besides the student, which is left behind afterwards.

    Args:
        settings: the losses with their weights.
        head: the teacher's, from embeddings to logits; it is not trained.
        features: width of what the student's classifier reads.
        width: of the teacher's embeddings.
        hint: shapes `[1, c, h, w]` (student, teacher) of the feature maps that hints compare.
    """

    def __init__(
        self,
        settings: Distillation,
        head: nn.Module,
        features: int,
        width: int,
        hint: tuple[torch.Size, torch.Size] | None,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.head = head.requires_grad_(False)
        self.projection = nn.Linear(features, width) if projects(settings) else None
        self.adapter = nn.Conv2d(hint[0][1], hint[1][1], 1) if hint else None
        places = hint[0][2:].numel() if hint else 0
        forward = self.projection.weight.numel() if self.projection else 0
        forward += places * self.adapter.weight.numel() if self.adapter else 0
        self.macs = 3 * forward
        """Multiply-accumulates an image of projection and adapter: forward, and backward to both sides."""

    @torch.no_grad()
    def fold_into(self, classifier: nn.Linear) -> None:
        """Give the student's classifier the weights of the projection followed by the teacher's head."""
        assert self.projection is not None
        weight, bias = self.projection.weight, self.projection.bias
        if isinstance(self.head, nn.Linear):
            weight, bias = self.head.weight @ weight, self.head(bias)
        classifier.weight.copy_(weight)
        if classifier.bias is not None:
            classifier.bias.copy_(bias)

    def forward(self, step: Step) -> Tensor:
        """The objective, a scalar."""
        projected = None if self.projection is None else self.projection(step.features)
        with torch.autocast(step.told.device.type, enabled=False):  # logits of CLIP are too large for half precision
            with torch.no_grad():
                answers = self.head(step.told)
            if projected is not None and self.settings.classifier == "teacher":
                step = replace(step, logits=self.head(projected.float()))
        sides = Sides(step, answers, projected, self.adapter)
        total = step.logits.new_zeros(())
        for name, loss in self.settings.losses.named().items():
            term = TERMS[name] if name in TERMS else _own(name)
            total = total + loss.weight.at(step.progress) * term(loss, sides)
        return total


@dataclass(frozen=True)
class Sides:
    """A step with what is worked out from it: the teacher's logits, and the student's embeddings `[b, width]`."""

    step: Step
    answers: Tensor
    projected: Tensor | None
    adapter: nn.Module | None

    @property
    def embedded(self) -> Tensor:
        assert self.projected is not None
        return self.projected


def _ce(_: Any, sides: Sides) -> Tensor:
    step = sides.step
    return losses.labelled_cross_entropy(step.logits, step.labels, step.smoothing)


def _kd(loss: Any, sides: Sides) -> Tensor:
    function = losses.kd_standardized if loss.standardize else losses.kd
    return function(sides.step.logits, sides.answers, loss.temperature.at(sides.step.progress))


def _dkd(loss: Any, sides: Sides) -> Tensor:
    step = sides.step
    target = torch.where(step.labels >= 0, step.labels, sides.answers.argmax(1))
    return losses.dkd(step.logits, sides.answers, target, loss.temperature.at(step.progress), loss.alpha, loss.beta)


def _dist(loss: Any, sides: Sides) -> Tensor:
    temperature = loss.temperature.at(sides.step.progress)
    return losses.dist(sides.step.logits, sides.answers, temperature, loss.beta, loss.gamma)


def _embedding(loss: Any, sides: Sides) -> Tensor:
    return DISTANCES[loss.distance](sides.embedded, sides.step.told)


def _crd(loss: Any, sides: Sides) -> Tensor:
    assert sides.step.others is not None
    return losses.crd(sides.embedded, sides.step.told, sides.step.others(loss.negatives), loss.temperature)


def _attention(_: Any, sides: Sides) -> Tensor:
    return losses.attention_transfer(*sides.step.maps["attention"])


def _hint(_: Any, sides: Sides) -> Tensor:
    assert sides.adapter is not None
    student, teacher = sides.step.maps["hint"]
    return losses.hint(sides.adapter(student), teacher)


def _own(name: str) -> Callable[[Any, Sides], Tensor]:
    function = PLUGIN_LOSSES[name.removeprefix("own.")]
    return lambda loss, sides: function(sides.step.logits, sides.answers, sides.step.labels, **loss.options)


TERMS: dict[str, Callable[[Any, Sides], Tensor]] = {
    "ce": _ce,
    "kd": _kd,
    "dkd": _dkd,
    "dist": _dist,
    "embedding": _embedding,
    "rkd_distance": lambda _, sides: losses.rkd_distance(sides.step.features, sides.step.told),
    "rkd_angle": lambda _, sides: losses.rkd_angle(sides.step.features, sides.step.told),
    "crd": _crd,
    "attention": _attention,
    "hint": _hint,
}
"""What each loss of `recipe.losses.Losses` computes, by its name there."""
