"""Layers of two artifacts side by side: which one of the second does the work of which one of the first."""

from __future__ import annotations

from collections.abc import Sequence
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
    """Pair the convolutions and linears of two artifacts, in the order of execution.

    Names differ between runtimes and after fusions, so layers are paired by order: of networks with as many, which are
    versions of each other, one by one; of others, where kind and shape of the output agree. Those that only one has
    are left out.
    """
    left, right = ([row for row in rows if row["kind"] in MULTIPLYING] for rows in (first, second))
    if [row["kind"] for row in left] == [row["kind"] for row in right]:
        pairs = list(zip(left, right, strict=True))
    else:
        matcher = SequenceMatcher(None, [_signature(row) for row in left], [_signature(row) for row in right], False)
        pairs = [
            (left[block.a + offset], right[block.b + offset])
            for block in matcher.get_matching_blocks()
            for offset in range(block.size)
        ]
    return [_pair(*pair) for pair in pairs]


def _signature(row: LayerRow) -> tuple[str, tuple[int, ...]]:
    """Kind and output of a layer, whichever order a runtime keeps channels, rows and columns in."""
    return row["kind"], tuple(sorted(row["shape"]))


def _pair(first: LayerRow, second: LayerRow) -> LayerPair:
    return LayerPair(
        first=first["number"],
        second=second["number"],
        kind=first["kind"],
        names=[first["name"], second["name"]],
        precisions=[first["precision"], second["precision"]],
        ms=[first["ms"], second["ms"]],
        ratio=first["ms"] / second["ms"] if second["ms"] else None,
    )
