"""Layers of two artifacts side by side: which one of the second does the work of which one of the first."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Hashable, Sequence
from difflib import SequenceMatcher
from typing import TypedDict

from compress.deployment.layers import LayerRow

MULTIPLYING = ("convolution", "linear")


class LayerPair(TypedDict):
    """A convolution or linear in two artifacts; `ratio` above 1 is faster in the second."""

    first: int
    second: int
    kind: str
    names: list[str]
    precisions: list[str]
    ms: list[float]
    ratio: float | None


def layer_pairs(first: Sequence[LayerRow], second: Sequence[LayerRow]) -> list[LayerPair]:
    """Pair the convolutions and linears of two artifacts, in the first one's order of execution.

    Runtimes rename layers and reorder branches, so the first of these that fits decides:

    1. Both have the same layers by kind, output and number of weights: versions of one network, as float and INT8.
    2. Both have the same names in the file: versions with other widths, as dense and pruned.
    3. Both have the same kinds in the same order: one by one.
    4. Other networks: where kind and output agree, in order; those that only one has are left out.
    """
    left, right = ([row for row in rows if row["kind"] in MULTIPLYING] for rows in (first, second))
    for key in (_content, _source):
        if (pairs := _by_key(left, right, key)) is not None:
            return [_pair(*pair) for pair in pairs]
    if [row["kind"] for row in left] == [row["kind"] for row in right]:
        return [_pair(*pair) for pair in zip(left, right, strict=True)]
    matcher = SequenceMatcher(None, [_signature(row) for row in left], [_signature(row) for row in right], False)
    return [
        _pair(left[block.a + offset], right[block.b + offset])
        for block in matcher.get_matching_blocks()
        for offset in range(block.size)
    ]


def _by_key(
    left: Sequence[LayerRow], right: Sequence[LayerRow], key: Callable[[LayerRow], Hashable]
) -> list[tuple[LayerRow, LayerRow]] | None:
    """Pair layers of the same key, in order; None where the keys are not the same ones, or one is not known."""
    keys = [[key(row) for row in rows] for rows in (left, right)]
    if None in keys[0] or Counter(keys[0]) != Counter(keys[1]):
        return None
    waiting: dict[Hashable, deque[LayerRow]] = {}
    for row, own in zip(right, keys[1], strict=True):
        waiting.setdefault(own, deque()).append(row)
    return [(row, waiting[own].popleft()) for row, own in zip(left, keys[0], strict=True)]


def _content(row: LayerRow) -> Hashable:
    return None if row["weights"] is None else (*_signature(row), row["weights"])


def _source(row: LayerRow) -> Hashable:
    return row["source"]


def _signature(row: LayerRow) -> tuple[str, tuple[int, ...]]:
    """Kind and output of a layer, whichever order a runtime keeps channels, rows and columns in."""
    return row["kind"], tuple(sorted(row["shape"]))


def _pair(first: LayerRow, second: LayerRow) -> LayerPair:
    return LayerPair(
        first=first["number"],
        second=second["number"],
        kind=first["kind"],
        names=[first["source"] or first["name"], second["source"] or second["name"]],
        precisions=[first["precision"], second["precision"]],
        ms=[first["ms"], second["ms"]],
        ratio=first["ms"] / second["ms"] if second["ms"] else None,
    )
