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
from compress.utils.errors import CompressError, UsageError

LISTED, WIDTH = 6, 160  # kinds of layers that are named in a line, and their characters
SMALL = 6  # groups of a kind that are tried one by one where they cannot be pruned together
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


def describe_left(left: Sequence[str]) -> str:
    """Say which layers are left whole, with `*` for the numbers in their names."""
    kinds = list(dict.fromkeys(map(_kind, left)))
    listed = [kind for row, kind in enumerate(kinds[:LISTED]) if not row or len(", ".join(kinds[: row + 1])) <= WIDTH]
    names = ", ".join(listed) + (", ..." if len(kinds) > len(listed) else "")
    layers = "1 layer keeps its channels" if len(left) == 1 else f"{len(left)} layers keep their channels"
    return f"{layers}, as torch-pruning cannot follow them: {names}"


def find_prunable(model: nn.Module, resolution: int, settings: Channels) -> Prunable:
    """Find the groups of layers that can be pruned, by removing half of the channels of all of them.

    The pruned network must run, and compute the same as with these channels set to zero. The latter is not asked of
    groups with layer or group norms, and of no group where the network has other modules that depend on the number of
    channels. Where a trial fails, groups are tried by their kind, as those of the same layer in all blocks, and those
    of small kinds one by one. All is tried on random weights, so that it depends on the architecture alone.

    Raises:
        UsageError: no layer matches a pattern in `keep`, or `importance: batch_norm` of a network without.
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
    _refuse_without_scales(model, settings, follows)
    return Prunable(follows, [*kept, *map(model.get_submodule, left)], left)


def _refuse_without_scales(model: nn.Module, settings: Channels, groups: Sequence[CoupledGroup]) -> None:
    modules = (model.get_submodule(name) for group in groups for name in group.outputs)
    if settings.importance == "batch_norm" and not any(isinstance(module, nn.BatchNorm2d) for module in modules):
        raise UsageError("importance: batch_norm: no prunable layer has a batch norm; choose another importance")


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
    def outputs(self) -> torch.Size:
        return output_shape(self.network, self.resolution)

    @cached_property
    def depends_on_width(self) -> bool:
        """Whether there are modules whose results depend on the number of channels, and that torch-pruning ignores.

        They are norms that it does not know, such as `GlobalResponseNorm`, and convolutions over channels, as in ECA.
        """
        known = (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)
        parts = [module for module in self.model.modules() if not list(module.children())]
        others = {type(part).__name__ for part in parts if not isinstance(part, known)}
        norms = any("Norm" in name and "BatchNorm" not in name for name in others)
        return norms or any(isinstance(part, nn.Conv1d) for part in parts)

    def has_norms(self, group: CoupledGroup) -> bool:
        """Whether a norm that depends on the number of channels computes with those of a group, or may do so."""
        modules = map(self.model.get_submodule, group.outputs)
        return self.depends_on_width or any(isinstance(module, nn.LayerNorm | nn.GroupNorm) for module in modules)

    def follows(self) -> list[CoupledGroup]:
        """Collect the kinds of groups that can be pruned together, each with those before."""
        follows: list[CoupledGroup] = []
        for kind in self.kinds():
            if not self.failure(kind, follows, all_narrower=True):
                follows += kind
            elif 1 < len(kind) <= SMALL:
                for group in kind:
                    follows += [] if self.failure([group], follows, all_narrower=True) else [group]
        return follows

    def failure(
        self, chosen: Sequence[CoupledGroup], tried: Sequence[CoupledGroup] = (), all_narrower: bool = False
    ) -> CompressError | None:
        """Remove channels of the `chosen` groups beside those `tried` before, and return why that fails.

        With `all_narrower` it fails too if one of them stays as it was.
        """
        groups = [*tried, *chosen]
        exact = [group for group in groups if not self.has_norms(group)]
        first = None
        if not all(map(self.has_norms, chosen)):  # the others were tried before
            first = self._failure(exact, all_narrower, exact=True)
        return first or (self._failure(groups, all_narrower, exact=False) if len(exact) < len(groups) else None)

    def _failure(self, chosen: Sequence[CoupledGroup], all_narrower: bool, exact: bool) -> CompressError | None:
        others = [name for group in self.groups if group not in chosen for name in group.layers]
        kept = [self.network.get_submodule(name) for name in (*self.kept_names, *others)]
        settings = Channels(target_macs=SHARE, round_to=self.round_to, ranking="sensitivity")
        shares = {group.layers[0]: SHARE for group in chosen}
        masked = _Masked(duplicate(self.network)) if exact else None
        try:
            pruned = remove_channels(
                self.network, self.resolution, shares, settings, kept, self.outputs, masked.remove if masked else None
            )
            with boundary("torch-pruning", type(self.model).__name__):
                mixed_up = masked is not None and not self._same(masked.network, pruned)
        except CompressError as error:
            # Not of a library: its classifier was not recognised. A limit of time would depend on the machine.
            if error.__cause__ is None or isinstance(error.__cause__, TimeoutError):
                raise
            return error
        if all_narrower and any(self._keeps_all(group.layers[0], pruned) for group in chosen):
            return self._failed("it removes none of the channels")
        return self._failed("it mixes up channels, as of a shuffle that it does not see") if mixed_up else None

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
class _Masked:
    """A network in which the channels that another one loses are zero: what layers return, and what they read."""

    network: nn.Module
    masks: dict[tuple[str, bool], Tensor] = field(default_factory=dict)

    def remove(self, name: str, of_outputs: bool, positions: Sequence[int]) -> None:
        """Mask outputs or inputs of a module, given by their positions among those that are left."""
        module = self.network.get_submodule(name)
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            channels, dimension = module.out_channels if of_outputs else module.in_channels, 1
        elif isinstance(module, nn.Linear):
            channels, dimension = module.out_features if of_outputs else module.in_features, -1
        else:
            return
        if (name, of_outputs) not in self.masks:
            self.masks[name, of_outputs] = torch.ones(channels)
            self._hook(module, of_outputs, self.masks[name, of_outputs], dimension)
        mask = self.masks[name, of_outputs]
        mask[mask.nonzero()[:, 0][list(positions)]] = 0

    def _hook(self, module: nn.Module, of_outputs: bool, mask: Tensor, dimension: int) -> None:
        def masked(maps: Tensor) -> Tensor:
            return maps * (mask if dimension == -1 else mask.view(-1, 1, 1))

        if of_outputs:
            module.register_forward_hook(lambda _, __, maps: masked(maps))
        else:
            module.register_forward_pre_hook(lambda _, given: (masked(given[0]), *given[1:]))


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
        else:  # below 1, so that deep networks stay finite
            parameter.copy_(0.25 + 0.5 * torch.rand(parameter.shape, generator=generator))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return network


def _kind(layer: str) -> str:
    return re.sub(r"\d+", "*", layer)
