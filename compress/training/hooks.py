"""Hooks that read activations in the middle of a network, for losses between features or feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.models.embedding import library_name
from compress.recipe.fit import Distillation
from compress.recipe.loss import Maps
from compress.recipe.losses import Losses
from compress.training.teacher_signal import OnlineTeacher, TeacherSignal
from compress.utils.errors import UsageError


class LayerHook:
    """Captures the output of a layer in each forward pass, or its input, until it is removed."""

    def __init__(self, layer: nn.Module, *, on_input: bool = False) -> None:
        self.captured: Tensor | None = None
        if on_input:
            self._handle = layer.register_forward_pre_hook(self._capture_input)
        else:
            self._handle = layer.register_forward_hook(self._capture_output)

    @property
    def value(self) -> Tensor:
        """The tensor that was captured last."""
        assert self.captured is not None
        return self.captured

    def remove(self) -> None:
        self._handle.remove()
        self.captured = None

    def _capture_input(self, _: nn.Module, args: Any) -> None:
        self.captured = args[0]

    def _capture_output(self, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            self.captured = output.clone()  # later layers may work in place


@dataclass(frozen=True)
class DistillationHooks:
    """Hooks on the layers that losses read."""

    features: LayerHook | None = None  # on the input of the student's classifier; None if no loss reads it
    # on the layers of student and teacher that a loss compares, by loss
    maps: Mapping[str, tuple[LayerHook, LayerHook]] = field(default_factory=dict)

    def map_pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return the feature maps `[b, c, h, w]` of student and teacher in the last step, by loss."""
        return {name: (student.value, teacher.value) for name, (student, teacher) in self.maps.items()}

    def remove(self) -> None:
        for hook in (self.features, *chain.from_iterable(self.maps.values())):
            if hook:
                hook.remove()


def register_hooks(
    settings: Distillation, student: nn.Module, teacher: TeacherSignal, classifier: str
) -> DistillationHooks:
    """Hook the layers that the losses of `settings` read; `classifier` is the name of the student's."""
    features = LayerHook(student.get_submodule(classifier), on_input=True) if settings.needs_features else None
    maps = {}
    for name, loss in _map_losses(settings.losses).items():
        assert isinstance(teacher, OnlineTeacher)
        layers = _layer(student, loss.student_layer), _layer(teacher.tower, loss.teacher_layer)
        maps[name] = LayerHook(layers[0]), LayerHook(layers[1])
    return DistillationHooks(features, maps)


def map_shapes(
    losses: Losses, student: nn.Module, preprocess: Preprocess, teacher: TeacherSignal
) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Return the shapes `[1, c, h, w]` of the maps of student and teacher, for each loss that compares maps.

    Raises:
        UsageError: A layer that a loss names does not exist, or its output is not `[b, c, h, w]`.
    """
    shapes = {}
    for name, loss in _map_losses(losses).items():
        assert isinstance(teacher, OnlineTeacher)
        of_teacher = _map_shape(teacher.tower, teacher.preprocess, loss.teacher_layer)
        shapes[name] = _map_shape(student, preprocess, loss.student_layer), of_teacher
    return shapes


def _map_losses(losses: Losses) -> dict[str, Maps]:
    return {name: loss for name, loss in losses.named().items() if isinstance(loss, Maps)}


@torch.no_grad()
def _map_shape(network: nn.Module, preprocess: Preprocess, layer: str) -> torch.Size:
    """Return the shape `[1, c, h, w]` of a layer's output for one image."""
    side, training = preprocess.resolution, network.training
    hook = LayerHook(_layer(network, layer))
    network.eval()(torch.zeros(1, 3, side, side))
    network.train(training)
    output = hook.captured
    hook.remove()
    if output is None or output.ndim != 4:
        shape = "no single tensor" if output is None else str(list(output.shape))
        raise UsageError(f"the layer {layer!r} gives {shape}, not maps [b, c, h, w]")
    return output.shape


def _layer(network: nn.Module, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(network.named_modules())
    modules |= {own: module for key, module in modules.items() if (own := library_name(network, key)) != key}
    if name not in modules:
        known = [key for key in modules if key.count(".") == name.count(".")][:40]
        raise UsageError(f"{type(network).__name__} has no layer {name!r}; it has, among others, {', '.join(known)}")
    return modules[name]
