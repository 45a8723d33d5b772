from __future__ import annotations

from typing import Any

from compress.report.page import render_html, render_markdown
from compress.report.pruning import pruning_tables


def variant(name: str, parent: str | None, top1: float, milliseconds: float, **details: Any) -> dict[str, Any]:
    latency = {"runtime": "openvino", "batch": 1, "p50_ms": milliseconds, "p99_ms": milliseconds}
    return {
        "id": name,
        "parent": parent,
        "kind": "prune",
        "accuracy": {"top1": top1, "ci95": [top1 - 0.01, top1 + 0.01]},
        "inference": {"macs": 1000, "bytes": 4000, "latency": [latency]},
        "training": {"macs": 5000, "parts": []},
        **details,
    }


def row(layer: str, number: int, loss: float) -> dict[str, Any]:
    return {"layers": [layer], "asked": 0.5, "ratio": 0.25, "top1": 0.9 - loss, "loss": loss, "round": number}


def sparse(zeros: int) -> dict[str, Any]:
    told = {"pattern": "2:4", "zeros": zeros, "weights": 200, "left_dense": []}
    return {**told, "compressed_bytes": 3000, "parent_compressed_bytes": 3900}


RESULTS = {
    "variants": [
        variant("dense", None, 0.9, 10),
        variant("pruned", "dense", 0.88, 5, pruning={"sensitivity": [row("<b>", 1, 0.05), row("<b>", 2, -0.01)]}),
        variant("shrunk", "pruned", 0.86, 5, control={"of": "pruned", "gain": 0.02, "gain_ci95": [0.005, 0.035]}),
        variant("fours", "dense", 0.89, 4, sparsity=sparse(100)),
        variant("third", "dense", 0.89, 9.9, sparsity=sparse(50)),
    ]
}


def tables() -> dict[str, list[tuple[str, ...]]]:
    return {table.title: list(table.rows) for table, _ in pruning_tables(RESULTS)}


def test_a_control_that_is_worse_says_that_pruning_gained() -> None:
    ((pruned, _, control, _, against, *_),) = tables()["Pruned against shrunk"]
    assert (pruned, control) == ("pruned", "shrunk")
    assert against == "2.0 points more (0.5 to 3.5)"


def test_zeros_are_shares_and_times_are_against_what_was_before() -> None:
    fours, third = tables()["Sparse weights"]
    assert fours[2] == "50.0%" and third[2] == "25.0%"
    assert fours[-1] == "openvino b1 2.50×" and third[-1] == "openvino b1 1.01×"


def test_a_runtime_that_one_pattern_gains_from_is_not_called_idle() -> None:
    def note(results: dict[str, Any]) -> str:
        return next(table.note for table, _ in pruning_tables(results) if table.key == "sparsity")

    assert "not made use of" not in note(RESULTS)
    without = {"variants": [v for v in RESULTS["variants"] if v["id"] != "fours"]}
    assert "not made use of by openvino" in note(without)


def test_rounds_stand_apart() -> None:
    found = tables()
    assert found["Sensitivity of the layers: pruned, round 1"] == [("<b>", "+5.00 (25%)")]
    assert found["Sensitivity of the layers: pruned, round 2"] == [("<b>", "−1.00 (25%)")]


def test_names_of_layers_run_no_script() -> None:
    page = render_html(RESULTS)
    assert "<b>" not in page.split("Sensitivity of the layers")[1]
    assert "Sensitivity of the layers: pruned, round 2" in render_markdown(RESULTS)
