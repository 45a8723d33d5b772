"""Tables of pruning: control, sparse weights and sensitivity."""

from __future__ import annotations

from typing import Any

import pytest

from compress.report.page import render_html, render_markdown
from compress.report.pruning import pruning_tables
from compress.results import RunRecord


def variant(name: str, parent: str | None, top1: float, milliseconds: float, **details: Any) -> dict[str, Any]:
    unknown = {"value": None, "method": None}
    latency = {
        **{"runtime": "openvino", "batch": 1, "precision": "fp32", "threads": 2, "resolution": 32},
        **{"p50_ms": milliseconds, "p99_ms": milliseconds, "ratio_to_reference": None, "ratio_ci95": None},
    }
    bits = {"bit_operations": 1_024_000, "weight_bits": 32, "activation_bits": 32, "quantized_convs": 0}
    return {
        "id": name,
        "parent": parent,
        "kind": "prune",
        "accuracy": {"top1": top1, "correct": 1, "n": 1, "ci95": [top1 - 0.01, top1 + 0.01], "split": "test"},
        "inference": {
            **{"macs": 1000, "params": 1000, "bytes": 4000, "total_convs": 1, **bits},
            **{"latency": [latency], "energy_j": unknown},
        },
        "training": {"macs": 5000, "parts": [], "wall_s": 1.0, "energy_j": unknown, "curve": []},
        **details,
    }


def row(layer: str, number: int, loss: float) -> dict[str, Any]:
    return {"layers": [layer], "asked": 0.5, "ratio": 0.25, "top1": 0.9 - loss, "loss": loss, "round": number}


def sparse(zeros: int) -> dict[str, Any]:
    counts = {"pattern": "2:4", "zeros": zeros, "weights": 200, "left_dense": []}
    return {**counts, "compressed_bytes": 3000, "parent_compressed_bytes": 3900}


VARIANTS = [
    variant("dense", None, 0.9, 10),
    variant(
        "pruned", "dense", 0.88, 5, pruning={"widths": {}, "sensitivity": [row("<b>", 1, 0.05), row("<b>", 2, -0.01)]}
    ),
    variant("shrunk", "pruned", 0.86, 5, control={"of": "pruned", "gain": 0.02, "gain_ci95": [0.005, 0.035]}),
    variant("fours", "dense", 0.89, 4, sparsity=sparse(100)),
    variant("third", "dense", 0.89, 9.9, sparsity=sparse(50)),
]


@pytest.fixture
def record(results: dict[str, Any]) -> RunRecord:
    empty: dict[str, Any] = dict.fromkeys(("efficiency", "training_efficiency", "class_changes"), ())
    return RunRecord.model_validate(results | empty | {"variants": VARIANTS, "disagreements": None})


def rows(record: RunRecord) -> dict[str, list[tuple[str, ...]]]:
    return {table.title: list(table.rows) for table in pruning_tables(record)}


def test_control_with_lower_accuracy_shows_a_gain_of_pruning(record: RunRecord) -> None:
    ((pruned, _, control, _, against, *_),) = rows(record)["Pruned against shrunk"]
    assert (pruned, control) == ("pruned", "shrunk")
    assert against == "2.0 points more (0.5 to 3.5)"


def test_zeros_are_shares_and_speedups_are_against_the_parent(record: RunRecord) -> None:
    fours, third = rows(record)["Sparse weights"]
    assert fours[2] == "50.0%" and third[2] == "25.0%"
    assert fours[-1] == "openvino b1 2.50×" and third[-1] == "openvino b1 1.01×"


def test_runtime_that_gains_from_one_pattern_is_not_called_idle(record: RunRecord) -> None:
    def note(record: RunRecord) -> str:
        return next(table.note for table in pruning_tables(record) if table.key == "sparsity")

    assert "No speedup" not in note(record)
    without = [variant for variant in record.variants if variant.id != "fours"]
    assert "No speedup from the zeros was measured in openvino" in note(
        record.model_copy(update={"variants": tuple(without)})
    )


def test_each_round_has_its_own_sensitivity(record: RunRecord) -> None:
    found = rows(record)
    assert found["Sensitivity of the layers: pruned, round 1"] == [("<b>", "+5.00 (25%)")]
    assert found["Sensitivity of the layers: pruned, round 2"] == [("<b>", "−1.00 (25%)")]


def test_names_of_layers_are_escaped(record: RunRecord) -> None:
    page = render_html(record)
    assert "<b>" not in page.split("Sensitivity of the layers")[1]
    assert "Sensitivity of the layers: pruned, round 2" in render_markdown(record)
