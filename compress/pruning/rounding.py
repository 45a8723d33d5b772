"""Use what rounding leaves: channel counts in multiples of `round_to` that come near the target from below.

A common ratio makes layers of all widths lose a block of channels at the same moment: ResNet18 in multiples of 16 falls
from above half of its MACs to 40% of them. Between the two, each layer may have the wider or the narrower count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from compress.measurement.compute import count
from compress.pruning.widths import Widths


def take_affordable(layers: Sequence[str], fits: Callable[[list[str]], bool]) -> list[str]:
    """Take layers in their order: again and again the longest run of the next ones that fits, past one that does not.

    `fits` says whether these layers may be wide; with more of them it is never true again. Of its calls that return
    True, the last is with the result.
    """
    taken, start = list[str](), 0
    while start < len(layers):
        low, high = 0, len(layers) - start
        while low < high:
            middle = (low + high + 1) // 2
            if fits([*taken, *layers[start : start + middle]]):
                low = middle
            else:
                high = middle - 1
        taken += layers[start : start + low]
        start += low + 1
    return taken


def undecided(model: nn.Module, wide: Widths, narrow: Widths, groups: Sequence[Sequence[str]], side: int) -> list[str]:
    """List the layers, by the first of each coupled group, that are wider in one network; costly ones first."""
    macs = count(model, side).layers

    def saved(group: Sequence[str]) -> float:
        removed = 1 - narrow[group[0]] / wide[group[0]]
        return removed * sum(macs.get(name, 0) for name in group)

    different = [group for group in groups if wide[group[0]] > narrow[group[0]]]
    return [group[0] for group in sorted(different, key=saved, reverse=True)]
