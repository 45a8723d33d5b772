"""Realistic results for the tests of the report, as plain data; savings are from the real arithmetic."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from results_factory import N, accuracy, example, savings_of

from compress.measurement.accuracy import bits
from compress.report.compare import compare
from compress.report.comparison import Comparison

DRAWN = {"test_browser", "test_compare", "test_hostile", "test_pruning", "test_scatter", "test_svg", "test_training"}
"""Modules whose charts are drawn."""


@pytest.fixture(autouse=True)
def _quick_charts(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page has eleven charts, which take four seconds; tests that are marked `charts` have them."""
    if request.path.stem not in DRAWN and "charts" not in request.keywords:
        monkeypatch.setattr("compress.report.svg._drawn", lambda *_: '<svg width="1pt" height="1pt"></svg>')


@pytest.fixture
def results() -> dict[str, Any]:
    """The example, fresh for every test."""
    return example()


@pytest.fixture
def second() -> dict[str, Any]:
    """Another run of the example: pruned further, 200 more of the test images wrong for it, and one new variant."""
    run = example()
    run["run"]["id"] = "second"
    run["recipe"]["resolved"]["stages"][2]["target_macs"] = 0.25
    run["environment"]["cpu"] = "another"
    pruned = run["variants"][3]
    right = np.unpackbits(np.frombuffer(bytes.fromhex(pruned["accuracy"]["right"]), np.uint8))[:N].astype(bool)
    right[np.flatnonzero(right)[:200]] = False
    pruned["accuracy"] = accuracy(int(right.sum()), N, bits(right)).model_dump(mode="json")
    pruned["inference"]["macs"] //= 2
    pruned["stage_key"] = "another"
    for row in pruned["inference"]["latency"]:
        row["ratio_ci95"] = [2 * end for end in row["ratio_ci95"]]
        row["rounds_ms"] = [[ms / 2 for ms in rounds] for rounds in row["rounds_ms"]]
    run["variants"].append({**copy.deepcopy(pruned), "id": "new"})
    return run


@pytest.fixture
def crowded() -> dict[str, Any]:
    """The quantization recipe as it comes out: one reference, and nine variants of its MACs and nearly its accuracy."""
    run = example()
    teacher, distilled, int8 = (run["variants"][number] for number in (0, 2, 4))
    names = (
        *("histogram", "minmax", "percentile", "eight_bits", "nncf"),
        *("nncf_corrected", "onnxruntime", "aware", "held"),
    )
    made = []
    for number, name in enumerate(names):
        variant = {**copy.deepcopy(int8), "id": name, "parent": "distilled"}
        own = accuracy(2060 - 3 * (number % 5), N, int8["accuracy"]["right"])
        variant["accuracy"] = own.model_dump(mode="json")
        variant["inference"] |= {"macs": distilled["inference"]["macs"], "bit_operations": 64 * 148_700_000}
        made.append(variant)
    run["variants"] = [teacher, distilled, *made]
    run["efficiency"] = [savings_of(run, "distilled")]
    run["class_changes"], run["training_efficiency"] = [], []
    return run


@pytest.fixture
def compared(results: dict[str, Any], second: dict[str, Any], tmp_path: Path) -> Callable[[], Comparison]:
    """Compares the two, as they are when it is called."""

    def held() -> Comparison:
        folders = [tmp_path / name for name in ("first", "second")]
        for folder, run in zip(folders, (results, second), strict=True):
            folder.mkdir(exist_ok=True)
            (folder / "results.json").write_text(json.dumps(run))
        return compare(folders)

    return held
