"""Single weights held at zero by masks (`torch.nn.utils.parametrize`); the shapes of the network stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.pruning.channels import kept_layers
from compress.utils.errors import UsageError

UPDATES = 100  # of the masks, over the steps in which sparsity rises


class Mask(nn.Module):
    """Sets weights to zero where `mask`, of the weight's shape, is false. Such weights get no gradient."""

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", weight != 0)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def add_masks(network: nn.Module, keep: Sequence[str] = ()) -> dict[str, Mask]:
    """Put a mask on every convolution and linear layer but the classifier and those named in `keep`, by layer.

    Weights that are zero already, as those that only ever meet padding are, stay so and are not counted.

    Raises:
        UsageError: no layer has a name in `keep`, or none is left.
    """
    kept, masks = kept_layers(network, keep), {}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer not in kept:
            masks[name] = Mask(layer.weight.detach())
    if not masks:
        raise UsageError("keep: every layer keeps its weights; nothing is left to become zero")
    for name, mask in masks.items():
        parametrize.register_parametrization(network.get_submodule(name), "weight", mask)
    return masks


def original(network: nn.Module, layer: str) -> Tensor:
    """The weight of a masked layer as it is beneath its mask."""
    masked: Any = network.get_submodule(layer)
    return masked.parametrizations.weight.original.detach()  # type: ignore[no-any-return]


@torch.no_grad()
def mask_smallest(network: nn.Module, masks: dict[str, Mask], counted: int, sparsity: float) -> None:
    """Let the masks hide the smallest weights of the whole network; what is hidden stays hidden.

    Args:
        counted: weights that were not zero before anything was hidden.
        sparsity: share of them that is hidden then.
    """
    sizes = torch.cat([original(network, name)[mask.mask].abs().flatten() for name, mask in masks.items()])
    hide = len(sizes) - (counted - math.floor(sparsity * counted))
    if hide <= 0:
        return
    threshold = sizes.kthvalue(hide).values
    for name, mask in masks.items():
        mask.mask &= original(network, name).abs() > threshold


@torch.no_grad()
def mask_two_of_four(network: nn.Module, masks: dict[str, Mask]) -> list[str]:
    """Let the masks hide the two smallest of every four neighbouring input channels, at each place of a kernel.

    That is the pattern of sparse tensor cores (arXiv 2104.08378).

    Returns:
        Names of the layers whose input channels are no multiple of four: they stay as they are.
    """
    left = []
    for name, mask in masks.items():
        weight = original(network, name)
        if weight.shape[1] % 4:
            left.append(name)
            continue
        last = weight.abs().movedim(1, -1)
        fours = last.reshape(*last.shape[:-1], -1, 4)
        largest = torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, fours.topk(2).indices, True)
        mask.mask &= largest.flatten(-2).movedim(-1, 1)
    return left


def sparsity_at(progress: float, final: float, until: float) -> float:
    """Sparsity after a share of the steps, rising fast and then ever slower: s (1 - (1 - t)^3) (arXiv 1710.01878)."""
    left = max(0.0, 1 - progress / until)
    return float(final * (1 - left**3))


class Sparsify(Callback):
    """Raises unstructured sparsity while a network is fitted."""

    def __init__(self, network: nn.Module, masks: dict[str, Mask], counted: int, final: float, until: float) -> None:
        self.network, self.masks, self.counted = network, masks, counted
        self.final, self.until = final, until

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        steps = max(1, int(trainer.estimated_stepping_batches))
        every = max(1, int(self.until * steps / UPDATES))
        step, last = trainer.global_step, math.ceil(self.until * (steps - 1))
        if step <= last and (step % every == 0 or step == last):
            sparsity = sparsity_at(step / max(1, last), self.final, 1.0)
            mask_smallest(self.network, self.masks, self.counted, sparsity)


def fix_zeros(network: nn.Module, masks: dict[str, Mask]) -> None:
    """Take the masks away and leave their zeros in the weights."""
    for name in masks:
        parametrize.remove_parametrizations(network.get_submodule(name), "weight", leave_parametrized=True)
