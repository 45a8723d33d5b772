"""Search for the channels to remove that reach a target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial

import torch
from torch import Tensor, nn

from compress.measurement.compute import macs, parameters
from compress.pruning.channels import duplicate, remove_channels, whole_blocks
from compress.pruning.curves import Curve, ratios_at
from compress.pruning.groups import CoupledGroup, output_shape
from compress.pruning.prunable import Prunable, describe_left, find_prunable
from compress.pruning.rounding import take_affordable, undecided
from compress.pruning.widths import WidthCosts, Widths, widths_of
from compress.recipe.channels import Channels
from compress.utils.errors import UsageError

RATIOS = 64  # steps of the search for the pruning ratio
HALVINGS = 6  # of the last step, for targets that are counted and not timed


def prune_channels(
    model: nn.Module,
    resolution: int,
    settings: Channels,
    dense: nn.Module | None = None,
    *,
    latency: Callable[[nn.Module], float] | None = None,
    curves: Mapping[str, Curve] | None = None,
    prunable: Prunable | None = None,
    any_that_reaches: bool = False,
) -> nn.Module:
    """Return `model` in eval mode without its least important channels, at a cost of at most the target's share.

    The share of channels to remove is the smallest that reaches the target: of every layer (`ranking: local`), of the
    whole network (`global`), or of each layer with the same loss of accuracy (`sensitivity`). Channel counts are
    multiples of `round_to`; some layers keep one block of channels more where the cost stays below the target. The
    classifier keeps its outputs, and so do layers that torch-pruning cannot follow. For `taylor`, the parameters of
    `model` must have gradients; `random` draws from torch's generator, the same for every share.

    Args:
        dense: The network whose cost the target is a share of; None for `model`.
        latency: Measures a network as a share of the dense one's latency; needed for `target_latency`.
        curves: Loss of accuracy by layer and removed share; needed for `ranking: sensitivity`.
        prunable: What `find_prunable` has found of `model`; None to find it here.
        any_that_reaches: Whether to return the first network that reaches the target, instead of the widest.

    Raises:
        UsageError: the target cannot be reached (the message has the smallest value that can), no layer matches a
            pattern in `keep`, or `importance: batch_norm` of a network without.
        CompressError: torch-pruning cannot trace this architecture, or follow any of its layers.
    """
    target = _target(settings, resolution, model if dense is None else dense, latency)
    prunable = prunable or find_prunable(model, resolution, settings)
    costs = WidthCosts.of(model, resolution, prunable.groups) if target.widths else None
    search = partial(_Search, model, resolution, settings, prunable, curves, target, any_that_reaches)
    found = None
    if costs is not None:
        with suppress(UsageError):  # it says what can be reached by an arithmetic that may not hold
            found = search(costs).found()
    if costs is None or found is None or not found.is_as_computed(target, costs, prunable.groups):
        try:
            found = search(None).found()
        except UsageError:
            if found is None or target.share(found.network) > target.value:
                raise
    return found.network.eval()


@dataclass(frozen=True)
class _Target:
    """What a network may cost at most.

    Attributes:
        name: Of the setting.
        value: Share of the dense network's cost.
        share: Measures a network's share.
        widths: Computes the share from the widths alone; None for a latency.
    """

    name: str
    value: float
    share: Callable[[nn.Module], float]
    widths: Callable[[WidthCosts, Widths], float] | None


def _target(
    settings: Channels, resolution: int, dense: nn.Module, latency: Callable[[nn.Module], float] | None
) -> _Target:
    if settings.target_latency is not None:
        assert latency is not None
        return _Target("target_latency", settings.target_latency.share, latency, None)
    if settings.target_macs is not None:
        total = macs(dense, resolution)
        return _Target(
            "target_macs",
            settings.target_macs,
            lambda model: macs(model, resolution) / total,
            lambda costs, widths: costs.macs_of(widths) / total,
        )
    assert settings.target_params is not None
    weights = parameters(dense)
    return _Target(
        "target_params",
        settings.target_params,
        lambda model: parameters(model) / weights,
        lambda costs, widths: costs.parameters_of(widths) / weights,
    )


@dataclass
class _Candidate:
    """A network of the search, made when it is asked for."""

    widths: Widths
    make: Callable[[], nn.Module]

    @cached_property
    def network(self) -> nn.Module:
        return self.make()

    def is_as_computed(self, target: _Target, costs: WidthCosts, groups: Sequence[CoupledGroup]) -> bool:
        """Whether the network reaches the target, and where not all is of plain layers, has the widths that were asked
        for and costs what follows from them.
        """
        assert target.widths
        share, widths = target.share(self.network), widths_of(self.network, groups)
        exact = widths == self.widths and share == target.widths(costs, widths)
        return share <= target.value and (costs.plain or exact)


@dataclass(frozen=True)
class _Search:
    """What channels are removed from, and by which settings; without `costs` every network is made and measured."""

    model: nn.Module
    resolution: int
    settings: Channels
    prunable: Prunable
    curves: Mapping[str, Curve] | None
    target: _Target
    any_that_reaches: bool
    costs: WidthCosts | None
    state: Tensor = field(default_factory=torch.get_rng_state)

    @cached_property
    def outputs(self) -> torch.Size:
        """Shape of the outputs, which every candidate must keep."""
        return output_shape(self.model, self.resolution)

    @cached_property
    def full(self) -> dict[str, int]:
        """Widths of the network that nothing is removed from."""
        return widths_of(self.model, self.prunable.groups)

    def found(self) -> _Candidate:
        """Return the network with the smallest share of removed channels that reaches the target."""
        low, smallest, best = 0, 1.0, self._at(0.0)
        for high in self._steps():
            best = self._at(high / RATIOS)
            share = self._share(best)
            smallest = min(smallest, share)
            if share <= self.target.value:
                break
            low = high
        else:
            message = f"{self.target.name} {self.target.value} cannot be reached: the smallest reachable value is"
            left = f"; {describe_left(self.prunable.left)}" if self.prunable.left else ""
            raise UsageError(f"{message} {smallest:.4f}{left}")
        if self.any_that_reaches:
            return best
        while high - low > 1:
            middle = (low + high) // 2
            candidate = self._at(middle / RATIOS)
            if self._affords(candidate):
                high, best = middle, candidate
            else:
                low = middle
        if self.settings.target_latency is None:
            best = self._nearer(low / RATIOS, high / RATIOS, best)
        return best

    def _nearer(self, low: float, high: float, best: _Candidate) -> _Candidate:
        """Return a network between the one at `low`, which costs too much, and `best`, the one at `high`."""
        wide = self._at(low)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            candidate = self._at(middle)
            if self._affords(candidate):
                high, best = middle, candidate
            else:
                low, wide = middle, candidate
        narrow = best

        def fits(layers: list[str]) -> bool:
            nonlocal best
            chosen = {name: (wide if name in layers else narrow).widths[name] for name in narrow.widths}
            candidate = self._with(chosen)
            if affordable := self._affords(candidate):
                best = candidate
            return affordable

        layers = [group.layers for group in self.prunable.groups]
        take_affordable(undecided(self.model, wide.widths, narrow.widths, layers, self.resolution), fits)
        return best

    def _share(self, candidate: _Candidate) -> float:
        if self.costs is not None and self.target.widths is not None:
            return self.target.widths(self.costs, candidate.widths)
        return self.target.share(candidate.network)

    def _affords(self, candidate: _Candidate) -> bool:
        return self._share(candidate) <= self.target.value

    def _steps(self) -> Sequence[int]:
        """Steps to try before the bisection, which is below the first one that reaches the target."""
        if self.settings.ranking == "global":
            return range(4, RATIOS, 4)  # at high shares torch-pruning skips layers that would lose all channels
        if self.settings.ranking == "sensitivity":
            return range(8, RATIOS + 1, 8)  # steps through the measured losses
        # Beyond this share the narrowest layer would keep nothing, and would be skipped too.
        layers = [layer for layer in self.model.modules() if layer not in self.prunable.kept]
        convolutions = [layer.out_channels for layer in layers if isinstance(layer, nn.Conv2d) and layer.groups == 1]
        widths = convolutions or [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
        block = self.settings.round_to
        spare = [width for width in widths if width >= 2 * block]
        return [int(RATIOS * (1 - block / min(spare))) if spare else 0]

    def _at(self, progress: float) -> _Candidate:
        """Return the network at a common ratio, or at a progress through the measured losses."""
        full, block = self.full, self.settings.round_to
        if progress == 0:
            return _Candidate(full, lambda: duplicate(self.model))
        ratio: float | dict[str, float] = progress
        if self.settings.ranking == "sensitivity":
            assert self.curves is not None
            ratio = ratios_at(self.curves, progress)
            kept = {name: whole_blocks(full[name], share, block) for name, share in ratio.items()}
        else:
            kept = {name: int(channels * (1 - progress)) // block * block for name, channels in full.items()}
        if self.costs is not None and self.settings.ranking != "global":
            return self._with({name: kept.get(name) or channels for name, channels in full.items()})
        network = self._without(ratio, self.settings)
        return _Candidate(widths_of(network, self.prunable.groups), lambda: network)

    def _with(self, widths: Widths) -> _Candidate:
        shares = {name: 1 - channels / self.full[name] for name, channels in widths.items()}
        by_layer = self.settings.model_copy(update={"ranking": "sensitivity"})
        return _Candidate(widths, lambda: self._without(shares, by_layer))

    def _without(self, ratio: float | Mapping[str, float], settings: Channels) -> nn.Module:
        torch.set_rng_state(self.state)
        return remove_channels(self.model, self.resolution, ratio, settings, self.prunable.kept, self.outputs)
