"""Reading what passes through a layer in the middle of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.models.factory import classifier
from compress.recipe.fit import Distillation
from compress.recipe.losses import Losses
from compress.training.objective import reads_features
from compress.training.teacher_signal import OnlineTeacher, TeacherSignal
from compress.utils.errors import UsageError

MAPS = ("attention", "hint")


class Tap:
    """Keeps what a layer was last given, or what it made, as `value`, until it is closed."""

    def __init__(self, layer: nn.Module, *, given: bool = False) -> None:
        self.kept: dict[str, Tensor] = {}
        register = layer.register_forward_pre_hook if given else layer.register_forward_hook
        self.hook = register(self._before if given else self._after)  # type: ignore[arg-type]

    @property
    def value(self) -> Tensor:
        return self.kept["value"]

    def close(self) -> None:
        self.hook.remove()
        self.kept.clear()

    def _before(self, _: nn.Module, given: Any) -> None:
        self.kept["value"] = given[0]

    def _after(self, _: nn.Module, given: Any, made: Any) -> None:
        if isinstance(made, Tensor):
            self.kept["value"] = made.clone()  # later layers may work in place


def open_taps(settings: Distillation, network: nn.Module, answers: TeacherSignal) -> dict[str, Tap]:
    """Taps of the student's features, and of the layers of both sides, that losses look at."""
    taps = {"features": Tap(classifier(network)[1], given=True)} if reads_features(settings) else {}
    for name in MAPS:
        loss = getattr(settings.losses, name)
        if loss is not None:
            assert isinstance(answers, OnlineTeacher)
            taps[f"{name} of student"] = Tap(_layer(network, loss.student_layer))
            taps[f"{name} of teacher"] = Tap(_layer(answers.tower, loss.teacher_layer))
    return taps


def map_pairs(taps: Mapping[str, Tap]) -> dict[str, tuple[Tensor, Tensor]]:
    """Feature maps (student, teacher) by loss."""
    return {
        name: (taps[f"{name} of student"].value, taps[f"{name} of teacher"].value)
        for name in MAPS
        if f"{name} of student" in taps
    }


def hint_maps(
    losses: Losses, network: nn.Module, preprocess: Preprocess, answers: TeacherSignal
) -> tuple[torch.Size, torch.Size] | None:
    """Shapes `[1, c, h, w]` (student, teacher) of the maps that hints compare; None without hints.

    Raises:
        UsageError: a layer that a loss names is not there, or makes no maps.
    """
    shapes = {}
    for name in MAPS:
        loss = getattr(losses, name)
        if loss is not None:
            assert isinstance(answers, OnlineTeacher)
            teacher = _map_shape(answers.tower, answers.preprocess, loss.teacher_layer)
            shapes[name] = _map_shape(network, preprocess, loss.student_layer), teacher
    return shapes.get("hint")


@torch.no_grad()
def _map_shape(network: nn.Module, preprocess: Preprocess, layer: str) -> torch.Size:
    """Shape `[1, c, h, w]` of the maps that a layer makes of one image."""
    side, training = preprocess.resolution, network.training
    tap = Tap(_layer(network, layer))
    network.eval()(torch.zeros(1, 3, side, side))
    network.train(training)
    made = tap.kept.get("value")
    tap.close()
    if made is None or made.ndim != 4:
        given = "no single tensor" if made is None else str(list(made.shape))
        raise UsageError(f"the layer {layer!r} gives {given}, not maps [b, c, h, w]")
    return made.shape


def _layer(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules:
        known = [key for key in modules if key.count(".") == name.count(".")][:40]
        raise UsageError(f"{type(network).__name__} has no layer {name!r}; it has, among others, {', '.join(known)}")
    return network.get_submodule(name)
