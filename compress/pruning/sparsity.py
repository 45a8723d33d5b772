"""Weight sparsity by masks (`torch.nn.utils.parametrize`); the shapes of the network stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import parametrize

from compress.measurement.compute import layer_weights
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list

UPDATES = 100  # of the masks while sparsity rises


class Mask(nn.Module):
    """Sets weights to zero where `mask`, of the weight's shape, is False; these get no gradient."""

    mask: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", weight != 0)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask


def add_masks(network: nn.Module, kept: Sequence[nn.Module]) -> dict[str, Mask]:
    """Mask every convolution and linear layer except those `kept`, and those of `unmaskable`; returns the masks.

    Weights that are already zero, such as those that only ever meet padding, stay so and are not counted.

    Raises:
        UsageError: none is left.
    """
    masks = {
        name: Mask(layer.weight.detach())
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear) and _owns_weight(layer) and layer not in kept
    }
    if not masks:
        if dense := unmaskable(network, kept):
            raise UsageError(f"the weights of {truncate_list(dense)} cannot be masked; choose another network")
        raise UsageError("keep: every layer keeps its weights; remove a pattern")
    for name, mask in masks.items():
        parametrize.register_parametrization(network.get_submodule(name), "weight", mask)
    return masks


def unmaskable(network: nn.Module, kept: Sequence[nn.Module]) -> dict[str, int]:
    """Count the weights that cannot be masked, by layer, of a network without masks, except for the layers `kept`.

    They are the input projections of `nn.MultiheadAttention`, which are no layers of their own, weights that are
    computed from others (`weight_norm` and other parametrizations), and convolutions of one or three dimensions.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    computed = [name for name, layer in layers.items() if not _owns_weight(layer) and layer not in kept]
    counts = {name: layers[name].weight.numel() for name in computed}
    return counts | {name: weight.numel() for name, weight in layer_weights(network) if name not in layers}


def _owns_weight(layer: nn.Module) -> bool:
    return layer._parameters.get("weight") is not None


def unmasked_weight(network: nn.Module, layer: str) -> Tensor:
    """Return the weight of a masked layer without its mask."""
    masked: Any = network.get_submodule(layer)
    return masked.parametrizations.weight.original.detach()  # type: ignore[no-any-return]


@torch.no_grad()
def mask_smallest(network: nn.Module, masks: dict[str, Mask], counted: int, sparsity: float) -> None:
    """Mask the smallest weights of the whole network; masked weights stay masked.

    `sparsity` is a share of `counted`, the number of nonzero weights before any was masked.
    """
    sizes = torch.cat([unmasked_weight(network, name)[mask.mask].abs().flatten() for name, mask in masks.items()])
    hide = len(sizes) - (counted - math.floor(sparsity * counted))
    if hide <= 0:
        return
    threshold = sizes.kthvalue(hide).values
    kept = sizes >= threshold
    tied = (sizes == threshold).nonzero().flatten()
    kept[tied[: hide - int((~kept).sum())]] = False  # in order: not all weights of this size need to go
    parts = kept.split([int(mask.mask.sum()) for mask in masks.values()])  # type: ignore[no-untyped-call]
    for mask, part in zip(masks.values(), parts, strict=True):
        mask.mask[mask.mask.clone()] = part


@torch.no_grad()
def mask_two_of_four(network: nn.Module, masks: dict[str, Mask]) -> list[str]:
    """Mask the two smallest of every four adjacent input channels, at each position of a kernel.

    This is the 2:4 pattern of sparse tensor cores (arXiv 2104.08378). Layers whose number of input channels is not a
    multiple of four stay as they are; returns their names.
    """
    dense = []
    for name, mask in masks.items():
        weight = unmasked_weight(network, name)
        if weight.shape[1] % 4:
            dense.append(name)
            continue
        last = weight.abs().movedim(1, -1)
        fours = last.reshape(*last.shape[:-1], -1, 4)
        largest = torch.zeros_like(fours, dtype=torch.bool).scatter_(-1, fours.topk(2).indices, True)
        mask.mask &= largest.flatten(-2).movedim(-1, 1)
    return dense


def sparsity_at(progress: float, final: float, until: float) -> float:
    """Sparsity after a share of the steps, on the cubic schedule s (1 - (1 - t)^3) (arXiv 1710.01878)."""
    left = max(0.0, 1 - progress / until)
    return float(final * (1 - left**3))


class Sparsify(Callback):
    """Raises unstructured sparsity during training, on the schedule of `sparsity_at`."""

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


def remove_masks(network: nn.Module, masks: dict[str, Mask]) -> None:
    """Remove the masks and leave their zeros in the weights."""
    for name in masks:
        parametrize.remove_parametrizations(network.get_submodule(name), "weight", leave_parametrized=True)
