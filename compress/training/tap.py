"""Reading what passes through a layer in the middle of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.errors import UsageError
from compress.models.build import classifier
from compress.recipe.losses import Losses
from compress.training.answers import Answers, Live

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

    def _after(self, _: nn.Module, given: Any, made: Tensor) -> None:
        self.kept["value"] = made


def open_taps(losses: Losses, network: nn.Module, answers: Answers) -> dict[str, Tap]:
    """Taps of the student's features, and of the layers of both sides that losses compare."""
    taps = {"features": Tap(classifier(network)[1], given=True)}
    for name in MAPS:
        loss = getattr(losses, name)
        if loss is not None:
            assert isinstance(answers, Live)
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


@torch.no_grad()
def map_channels(network: nn.Module, preprocess: Preprocess, layer: str) -> int:
    """Channels of the maps `[b, c, h, w]` that a layer makes.

    Raises:
        UsageError: there is no such layer, or it makes no maps.
    """
    side, training = preprocess.resolution, network.training
    tap = Tap(_layer(network, layer))
    network.eval()(torch.zeros(1, 3, side, side))
    network.train(training)
    made = tap.value
    tap.close()
    if made.ndim != 4:
        raise UsageError(f"the layer {layer!r} gives {list(made.shape)}, not maps [b, c, h, w]")
    return int(made.shape[1])


def _layer(network: nn.Module, name: str) -> nn.Module:
    modules = dict(network.named_modules())
    if name not in modules:
        known = [key for key in modules if key.count(".") == name.count(".")][:40]
        raise UsageError(f"{type(network).__name__} has no layer {name!r}; it has, among others, {', '.join(known)}")
    return network.get_submodule(name)
