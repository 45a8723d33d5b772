"""Find the layers that can be pruned: torch-pruning follows the channels of some wrongly, or not at all."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn

from compress.measurement.compute import evaluating
from compress.pruning.channels import duplicate, remove_channels, whole_blocks
from compress.pruning.groups import CoupledGroup, coupled_groups, kept_layers, output_shape, width
from compress.recipe.channels import Channels
from compress.utils.boundaries import BOUNDARIES, boundary, failed
from compress.utils.errors import CompressError

LISTED = 6  # kinds of layers that are named in a line
SHARE = 0.5  # of the channels, that a trial removes
SAME = 0.02  # of the largest output: wrong channels differ by far more, rounding by far less


@dataclass(frozen=True)
class Prunable:
    """What can be pruned of a network.

    Attributes:
        groups: Layers that lose channels together.
        kept: Layers that keep theirs: the classifiers, those that a person has named, and those of `left`.
        left: Names of the layers that torch-pruning cannot follow.
    """

    groups: Sequence[CoupledGroup]
    kept: Sequence[nn.Module]
    left: tuple[str, ...] = ()


def said(left: Sequence[str]) -> str:
    """Say which layers are left whole, with `*` for the numbers in their names."""
    kinds = list(dict.fromkeys(map(_kind, left)))
    names = ", ".join(kinds[:LISTED]) + (", ..." if len(kinds) > LISTED else "")
    return f"{len(left)} layers keep their channels, as torch-pruning cannot follow them: {names}"


def find_prunable(model: nn.Module, resolution: int, settings: Channels) -> Prunable:
    """Find the groups of layers that can be pruned, by removing half of the channels of all of them.

    The pruned network must run, and compute the same as with these channels set to zero; the latter is only asked of
    groups without layer or group norms, which depend on the number of channels. Where that fails, groups are tried by
    their kind, as those of the same layer in all blocks. All is tried on random weights, so that it depends on the
    architecture alone.

    Raises:
        UsageError: no layer matches a pattern in `keep`.
        CompressError: torch-pruning cannot trace this architecture, follow any of its layers, or find its classifier.
    """
    kept = kept_layers(model, resolution, settings.keep)
    groups, lost = coupled_groups(model, resolution, kept)
    trial = _Trial(model, resolution, settings.round_to, [*kept, *lost], groups)
    follows, failure = groups, trial.failure(groups)
    if failure:
        follows = trial.follows()
        if not follows:
            raise failure
    names = {module: name for name, module in model.named_modules()}
    fails = [name for group in groups if group not in follows for name in group.layers]
    left = (*(names[layer] for layer in lost), *fails)
    return Prunable(follows, [*kept, *map(model.get_submodule, left)], left)


@dataclass(frozen=True)
class _Trial:
    """Pruning of some of a network's `groups`, with random weights."""

    model: nn.Module
    resolution: int
    round_to: int
    kept: Sequence[nn.Module]
    groups: Sequence[CoupledGroup]

    @cached_property
    def network(self) -> nn.Module:
        return _randomised(self.model)

    @cached_property
    def kept_names(self) -> list[str]:
        return [name for name, module in self.model.named_modules() if module in self.kept]

    def kinds(self) -> list[list[CoupledGroup]]:
        """Groups by the names of their layers without numbers, those without norms first, which are tried exactly."""
        kinds: dict[frozenset[str], list[CoupledGroup]] = {}
        for group in self.groups:
            kinds.setdefault(frozenset(map(_kind, group.layers)), []).append(group)
        return sorted(kinds.values(), key=lambda kind: any(map(self.has_norms, kind)))

    @cached_property
    def has_other_norms(self) -> bool:
        """Whether there are norms that torch-pruning does not know, such as `GlobalResponseNorm`."""
        known = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)
        types = {type(module).__name__ for module in self.model.modules() if not isinstance(module, known)}
        return any("Norm" in kind and "BatchNorm" not in kind for kind in types)

    def has_norms(self, group: CoupledGroup) -> bool:
        """Whether a norm that depends on the number of channels computes with those of a group, or may do so."""
        modules = map(self.model.get_submodule, group.outputs)
        return self.has_other_norms or any(isinstance(module, nn.LayerNorm | nn.GroupNorm) for module in modules)

    def follows(self) -> list[CoupledGroup]:
        """Collect the kinds of groups that can be pruned together, each with those before."""
        follows: list[CoupledGroup] = []
        for kind in self.kinds():
            follows += [] if self.failure([*follows, *kind], all_narrower=True) else kind
        return follows

    def failure(self, chosen: Sequence[CoupledGroup], all_narrower: bool = False) -> CompressError | None:
        """Remove channels of the `chosen` groups, and return why that fails.

        With `all_narrower` it fails too if one of them stays as it was.
        """
        exact = [group for group in chosen if not self.has_norms(group)]
        first = self._failure(exact, all_narrower, exact=True) if exact else None
        return first or (self._failure(chosen, all_narrower, exact=False) if len(exact) < len(chosen) else None)

    def _failure(self, chosen: Sequence[CoupledGroup], all_narrower: bool, exact: bool) -> CompressError | None:
        others = [name for group in self.groups if group not in chosen for name in group.layers]
        kept = [self.network.get_submodule(name) for name in (*self.kept_names, *others)]
        settings = Channels(target_macs=SHARE, round_to=self.round_to, ranking="sensitivity")
        shares = {group.layers[0]: SHARE for group in chosen}
        zeroed = _Zeroed(duplicate(self.network))
        outputs = output_shape(self.network, self.resolution)
        try:
            pruned = remove_channels(
                self.network, self.resolution, shares, settings, kept, outputs, zeroed.remove if exact else None
            )
        except CompressError as error:
            if error.__cause__ is None:  # not of a library: its classifier was not recognised
                raise
            return error
        if all_narrower and any(self._keeps_all(group.layers[0], pruned) for group in chosen):
            return self._failed("it removes none of the channels")
        if exact and not self._same(zeroed.network, pruned):
            return self._failed("it mixes up channels, as of a shuffle that it does not see")
        return None

    def _failed(self, reason: str) -> CompressError:
        return failed(BOUNDARIES["torch-pruning"], type(self.model).__name__, ValueError(reason))

    def _keeps_all(self, layer: str, pruned: nn.Module) -> bool:
        channels = width(self.model, layer)
        return width(pruned, layer) == channels > whole_blocks(channels, SHARE, self.round_to)

    def _same(self, first: nn.Module, second: nn.Module) -> bool:
        images = torch.randn(2, 3, self.resolution, self.resolution, generator=torch.Generator().manual_seed(0))
        with evaluating(first), evaluating(second), torch.no_grad():
            expected, given = first(images), second(images)
        if not expected.isfinite().all():  # random weights tell nothing of this network
            return True
        return bool((expected - given).abs().max() <= SAME * expected.abs().max())


@dataclass(frozen=True)
class _Zeroed:
    """A network in which channels are set to zero that another one loses."""

    network: nn.Module
    alive: dict[tuple[str, bool], list[int]] = field(default_factory=dict)

    @torch.no_grad()
    def remove(self, name: str, of_outputs: bool, positions: Sequence[int]) -> None:
        """Set channels of a module to zero, given by their positions among those that are left."""
        module = self.network.get_submodule(name)
        weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
        grouped = isinstance(module, nn.Conv2d) and module.groups > 1  # their producers are zero, which suffices
        if not isinstance(weight, Tensor) or (grouped and not of_outputs):
            return
        dimension = 0 if of_outputs or weight.ndim == 1 else 1
        alive = self.alive.setdefault((name, dimension == 0), list(range(weight.shape[dimension])))
        channels = [alive[position] for position in positions]
        weight.index_fill_(dimension, torch.tensor(channels), 0.0)
        if dimension == 0 and isinstance(bias, Tensor):
            bias[channels] = 0.0
        for channel in channels:
            alive.remove(channel)


@torch.no_grad()
def _randomised(model: nn.Module) -> nn.Module:
    """Return a copy of a network with random weights, in which every channel counts."""
    with boundary("torch-pruning", type(model).__name__):
        network = duplicate(model)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        if parameter.ndim > 1:
            deviation = math.sqrt(2 / max(1, parameter[0].numel()))
            parameter.copy_(deviation * torch.randn(parameter.shape, generator=generator))
        else:
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator))
    return network


def _kind(layer: str) -> str:
    return re.sub(r"\d+", "*", layer)
