"""Energy in the report: only where it is known, and always labelled measured or estimated."""

from __future__ import annotations

from typing import Any

import pytest
from results_factory import savings_of

from compress.efficiency.energy import inference_carbon, inference_energy
from compress.report import render_html, render_markdown
from compress.report.not_measured import not_measured
from compress.results import EnergyRow, LatencyRow, RunRecord

Results = dict[str, Any]
RAPL = "measured: RAPL package, idle subtracted"


def with_energy(results: Results, watts: float | None, counted: tuple[str, ...] = ()) -> RunRecord:
    for variant in results["variants"]:
        inference = variant["inference"]
        measured = {"method": RAPL, "idle_w": 9.5, "seconds": 5.0, "images": 160}
        rows = [
            EnergyRow.model_validate({**row, **measured, "value": row["p50_ms"] / 1000})
            for row in inference["latency"]
            if variant["id"] in counted and row["batch"] == 16
        ]
        energy = inference_energy(rows, [LatencyRow.model_validate(row) for row in inference["latency"]], watts)
        carbon = inference_carbon(energy, 300)
        inference["energy_j"] = energy.model_dump(mode="json")
        inference["carbon"] = carbon.model_dump(mode="json") if carbon else None
    results["efficiency"] = [savings_of(results, "distilled")]
    return RunRecord.model_validate(results)


def line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_no_columns_without_energy(results: Results) -> None:
    record = RunRecord.model_validate(results)
    assert "energy per image" not in render_html(record)
    assert "CO2e" not in render_markdown(record)


def test_estimates_are_labelled_everywhere(results: Results) -> None:
    record = with_energy(results, 15)
    text = render_markdown(record)
    row = line(text, "| int8 | quantize")
    assert "mJ, estimated (openvino, batch 16) |" in row and "g, estimated |" in row
    assert "+2.39, estimated |" in line(text, "| int8 | granted")
    assert "estimated: 15 W × latency" in text
    lines = [line for line in not_measured(record) if line.startswith("Energy of inference")]
    assert len(lines) == 1 and "estimated from a stated power" in lines[0] and "int8" in lines[0]


def test_measured_energy_is_labelled_with_its_idle_power(results: Results) -> None:
    record = with_energy(results, None, ("distilled", "int8"))
    text = render_markdown(record)
    assert "mJ, measured (openvino, batch 16) |" in line(text, "| int8 | quantize")
    assert line(text, "| pruned | prune").count("not measured |") == 2  # energy and emissions
    assert "Idle power, 9.5 to 9.5 W, is subtracted." in text
    assert ", measured |" in line(text, "| int8 | granted")
    assert f"int8 against fp32 in openvino, {RAPL} (int8)" in text
    assert "Energy of inference of teacher, scratch, pruned." in not_measured(record)


@pytest.mark.parametrize("counted", [("distilled",), ("int8",)])
def test_measured_and_estimated_energy_are_not_compared(results: Results, counted: tuple[str, ...]) -> None:
    (savings,) = with_energy(results, 15, counted).efficiency
    int8 = next(variant for variant in savings.variants if variant.id == "int8")
    assert int8.doublings.energy is None and int8.energy_basis is None
    assert int8.doublings.latency is not None
