"""Which energy a variant has, what it is called, and what may be held against what."""

from __future__ import annotations

from typing import Any

import pytest

from compress.efficiency.doublings import inference_ratios
from compress.efficiency.energy import energy_basis, inference_carbon, inference_energy

RAPL = "measured: RAPL package, idle subtracted"


def measured(runtime: str, value: float | None, batch: int = 16, method: str | None = RAPL) -> dict[str, Any]:
    about = {"runtime": runtime, "precision": "fp32", "batch": batch, "threads": 2, "resolution": 64}
    return {**about, "value": value, "method": method, "idle_w": 9.0, "seconds": 5.1, "images": 800}


def timed(runtime: str, batch: int, p50: float) -> dict[str, Any]:
    return {"runtime": runtime, "precision": "fp32", "batch": batch, "threads": 2, "p50_ms": p50, "resolution": 64}


LATENCY = [timed("openvino", 1, 1.5), timed("openvino", 16, 8.0), timed("onnxruntime", 16, 16.0)]


def inference(*rows: dict[str, Any], watts: float | None = None) -> dict[str, Any]:
    return {"energy_j": inference_energy(rows, LATENCY, watts)}


def test_what_was_measured_comes_first() -> None:
    energy = inference_energy([measured("onnxruntime", 0.2), measured("openvino", 0.1)], LATENCY, 15)
    assert (energy["value"], energy["method"], energy["runtime"], energy["batch"]) == (0.1, RAPL, "openvino", 16)
    assert (energy["idle_w"], energy["seconds"], energy["images"]) == (9.0, 5.1, 800)
    assert [row["value"] for row in energy["rows"]] == [0.2, 0.1]
    assert {row["method"] for row in energy["rows"]} == {RAPL}


def test_a_stated_power_makes_an_estimate_that_is_called_one() -> None:
    energy = inference_energy([measured("openvino", None, method=None)], LATENCY, 15)
    # 15 W x 8 ms / 16 images, the lowest time an image.
    assert energy["value"] == pytest.approx(0.0075)
    assert energy["method"] == "estimated: 15 W × latency"
    assert (energy["runtime"], energy["batch"], energy["idle_w"]) == ("openvino", 16, None)
    assert len(energy["rows"]) == 3 and all("estimated" in row["method"] for row in energy["rows"])


@pytest.mark.parametrize("latency", [LATENCY, []])
def test_without_either_it_is_unknown(latency: list[dict[str, Any]]) -> None:
    energy = inference_energy([], latency, None)
    assert energy.pop("rows") == []
    assert set(energy) >= {"value", "method", "runtime", "batch", "idle_w", "seconds"}
    assert all(value is None for value in energy.values())
    assert inference_carbon(energy, 300) is None


def test_carbon_has_the_mark_of_its_energy() -> None:
    carbon = inference_carbon(inference_energy([], LATENCY, 14.4), 500)
    # 14.4 W x 0.5 ms = 7.2 mJ an image, 7.2 kJ = 0.002 kWh a million.
    assert carbon is not None and carbon["g_per_million_images"] == pytest.approx(1.0)
    assert carbon["method"] == "estimated: 14.4 W × latency"
    assert inference_carbon(inference_energy([], LATENCY, 14.4), None) is None


def test_measured_is_not_held_against_estimated() -> None:
    counted, guessed = inference(measured("openvino", 0.2)), inference(watts=15)
    assert energy_basis(counted, guessed) is None
    assert energy_basis(guessed, inference(watts=16)) is None  # another power says nothing of the networks
    assert inference_ratios(counted, guessed)["energy"] is None
    assert inference_ratios(guessed, guessed)["energy"] == 1
    assert inference_ratios(counted, {"energy_j": {"value": None, "method": None}})["energy"] is None


def test_energies_are_of_one_runtime_and_batch() -> None:
    reference = inference(measured("openvino", 0.4), measured("pytorch", 0.9), measured("openvino", 2.0, batch=1))
    variant = inference(measured("onnxruntime", 0.05), measured("openvino", 0.1), measured("pytorch", 0.3))
    basis = energy_basis(reference, variant)
    assert basis is not None
    assert (basis["runtime"], basis["batch"], basis["method"], basis["ratio"]) == ("openvino", 16, RAPL, 4)
    assert energy_basis(reference, inference(measured("onnxruntime", 0.05))) is None
    assert energy_basis(reference, inference(measured("openvino", 0.05, batch=8))) is None
    assert energy_basis(reference, inference(measured("openvino", 0.05, method="measured: Jetson board"))) is None


def test_a_record_of_one_figure_is_its_own_row() -> None:
    old, new = {"energy_j": {"value": 2.0, "method": RAPL}}, {"energy_j": {"value": 0.5, "method": RAPL}}
    assert inference_ratios(old, new)["energy"] == 4
