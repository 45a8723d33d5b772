"""One variant in two runs: a run and its baseline, or one of a comparison and the first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from compress.efficiency.files import name_of
from compress.efficiency.verdict import Estimate
from compress.results import Artifact, RunRecord, Variant


@dataclass(frozen=True)
class Absent:
    """Why a figure, or its change, is unknown."""

    reason: str


def find_file(variant: Variant, name: str) -> Artifact | None:
    """Find a file of a variant by its name, which has the runtime and half precision: `openvino fp16`."""
    return next((artifact for artifact in variant.artifacts if name_of(artifact) == name), None)


Measured: TypeAlias = Estimate | Absent


class Side(NamedTuple):
    """A variant with its run."""

    run: RunRecord
    variant: Variant


class Sides(NamedTuple):
    """A variant in two runs, of which the second is compared with the first."""

    before: Side
    after: Side

    @property
    def same_key(self) -> bool:
        """Whether all that determines the variant is the same, so that it is the same model."""
        keys = [side.variant.stage_key for side in self]
        return keys[0] is not None and keys[0] == keys[1]


def pair(before: RunRecord, after: RunRecord, name: str) -> Sides | None:
    """Return the variant of a name in two runs; None where one lacks it."""
    found = [next((each for each in run.variants if each.id == name), None) for run in (before, after)]
    return Sides(Side(before, found[0]), Side(after, found[1])) if found[0] and found[1] else None
