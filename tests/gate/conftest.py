"""A run and its baseline, as plain data that a test changes, and the gate between them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_factory import N, accuracy, example

from compress.gate.gate import gate
from compress.gate.records import Check, Gate
from compress.measurement.accuracy import bits

Results = dict[str, Any]


def correct(variant: Results) -> np.ndarray:
    """Whether each test image is right, `[N]` booleans."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(variant["accuracy"]["right"]), np.uint8))[:N].astype(bool)


def set_correct(variant: Results, right: np.ndarray) -> None:
    """Give a variant other predictions; as another model, it has another key."""
    variant["accuracy"] = accuracy(int(right.sum()), N, bits(right)).model_dump(mode="json")
    variant["stage_key"] = "another"


@dataclass
class Pair:
    """Both runs; `before` and `after` are written when the gate is called."""

    root: Path
    before: Results = field(default_factory=example)
    after: Results = field(default_factory=example)

    def variant(self, id: str, of: Results | None = None) -> Results:
        (found,) = (each for each in (of or self.after)["variants"] if each["id"] == id)
        return found

    def write(self) -> tuple[Path, Path]:
        folders = self.root / "after", self.root / "before"
        for folder, results in zip(folders, (self.after, self.before), strict=True):
            folder.mkdir(exist_ok=True)
            (folder / "results.json").write_text(json.dumps(results))
        return folders

    def gate(self, *rules: str, variants: tuple[str, ...] = ("pruned",)) -> Gate:
        return gate(*self.write(), rules, variants)

    def check(self, rule: str, variant: str = "pruned") -> Check:
        """The only check of a rule on one variant."""
        (found,) = self.gate(rule, variants=(variant,)).checks
        return found

    def change(self, lost: int, gained: int, id: str = "pruned") -> None:
        """Lose some of the images of a variant, and gain others."""
        right = correct(self.variant(id, self.before))
        was_right, was_wrong = np.flatnonzero(right), np.flatnonzero(~right)
        right[was_right[:lost]], right[was_wrong[:gained]] = False, True
        set_correct(self.variant(id), right)


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    """Two runs that differ by nothing."""
    pair = Pair(tmp_path)
    pair.after["run"]["id"] = "after"
    return pair


Change = Callable[[Pair], object]
