"""The objective of a distillation: the weighted sum of the losses that a recipe names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.models.embedding import EmbeddingNetwork
from compress.models.heads import classifier
from compress.recipe.fit import Distillation
from compress.recipe.loss import Step
from compress.training.hooks import map_shapes
from compress.training.step_macs import step_macs
from compress.training.teacher_signal import TeacherSignal
from compress.utils.errors import UsageError


class Objective(nn.Module):
    """Sums the losses, and holds what is trained for them beside the student: the projection and the adapters.

    `map_shapes` are those `[1, c, h, w]` of the feature maps of student and teacher, by loss. A student that `embeds`
    ends in the teacher's embedding space itself: its features are what the losses compare. `classifier` is the name of
    the layer that reads `features`.
    """

    def __init__(
        self,
        settings: Distillation,
        head: nn.Module,
        features: int,
        width: int,
        map_shapes: Mapping[str, tuple[torch.Size, torch.Size]],
        *,
        embeds: bool = False,
        classifier: str = "",
    ) -> None:
        super().__init__()
        self.losses = settings.losses.named()
        self.uses_head = settings.classifier == "teacher"
        self.head = copy.deepcopy(head).requires_grad_(False)  # the caller's stays as it is
        self.projection = _projection(features, width, embeds) if settings.needs_projection else None
        adapted = {name: shapes for name, shapes in map_shapes.items() if self.losses[name].trains_adapter}
        self.adapters = nn.ModuleDict(
            {name: nn.Conv2d(student[1], teacher[1], 1) for name, (student, teacher) in adapted.items()}
        )
        self.classifier = classifier
        self.step_macs = partial(  # by the images of the step on a device
            step_macs,
            settings,
            features=features,
            width=width,
            head=sum(weight.numel() for weight in head.parameters() if weight.ndim > 1),
            adapters=sum(student.numel() * teacher[1] for student, teacher in adapted.values()),
            embeds=embeds,
        )

    def refuse_idle_losses(self, batch: int, images: int) -> None:
        """Refuse losses that are 0 in all steps of `batch` images per device, of `images` that are trained on.

        Raises:
            UsageError: there is one.
        """
        for name, loss in self.losses.items():
            if reason := loss.idle(batch, images):
                raise UsageError(f"losses: `{name}` would train nothing: {reason}")

    @torch.no_grad()
    def fold_into(self, network: nn.Module) -> None:
        """Give the student's classifier the weights of the projection followed by the teacher's head."""
        assert isinstance(self.projection, nn.Linear)
        weight, bias = self.projection.weight, self.projection.bias
        if isinstance(self.head, nn.Linear):
            weight, bias = self.head.weight @ weight, self.head(bias)
        own = network.get_submodule(self.classifier)
        assert isinstance(own, nn.Linear)
        own.weight.copy_(weight)
        own.bias.copy_(bias)

    def forward(
        self,
        logits: Tensor,
        features: Tensor,
        teacher_embeddings: Tensor,
        labels: Tensor,
        *,
        progress: float,
        label_smoothing: float = 0.0,
        sample_negatives: Callable[[int], Tensor] | None = None,
        maps: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """Return the objective of a batch, a scalar; see `compress.recipe.loss.Step`."""
        projected = None if self.projection is None else self.projection(features)
        with torch.autocast(logits.device.type, enabled=False):  # logits of CLIP are too large for half precision
            with torch.no_grad():
                teacher_logits = self.head(teacher_embeddings)
            if projected is not None and self.uses_head:
                logits = self.head(projected.float())
        step = Step(
            logits=logits,
            features=features,
            projected=projected,
            teacher_logits=teacher_logits,
            teacher_embeddings=teacher_embeddings,
            labels=labels,
            progress=progress,
            label_smoothing=label_smoothing,
            sample_negatives=sample_negatives,
        )
        total = logits.new_zeros(())
        for name, loss in self.losses.items():
            pair = self._adapted(name, *maps[name]) if maps and name in maps else None
            total = total + loss.weight.at(progress) * loss.compute(replace(step, maps=pair))
        return total

    def _adapted(self, name: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        return (self.adapters[name](student) if name in self.adapters else student), teacher


def _projection(features: int, width: int, embeds: bool) -> nn.Module:
    return nn.Identity() if embeds else nn.Linear(features, width)


def make_objective(
    settings: Distillation, network: nn.Module, preprocess: Preprocess, teacher: TeacherSignal, seed: int
) -> Objective:
    """Make the objective of a student `network`, whose classifier gets no gradient where it is computed from another.

    Raises:
        UsageError: the losses read features of one linear layer or maps that the student does not have, or its
            classifier lacks a bias.
    """
    torch.manual_seed(seed)
    name, features = "", 0
    if settings.needs_features:
        name, layer = classifier(network, preprocess.resolution)
        features = layer.in_features
        if settings.classifier == "teacher":
            if layer.bias is None:
                raise UsageError(
                    f"classifier: teacher needs a bias in the student's classifier, and {name} has none; set "
                    "`classifier: own`, or choose another student"
                )
            layer.requires_grad_(False)  # it is computed from what is trained
    shapes = map_shapes(settings.losses, network, preprocess, teacher)
    embeds = isinstance(network, EmbeddingNetwork)
    return Objective(settings, teacher.head, features, teacher.width, shapes, embeds=embeds, classifier=name)
