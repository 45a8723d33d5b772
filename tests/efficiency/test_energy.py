"""Energy of inference: what was measured before what was estimated, and the two never compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from results_factory import inference as cost
from results_factory import latency_row

from compress.efficiency.comparison import energy_basis, inference_doublings
from compress.efficiency.energy import inference_carbon, inference_energy
from compress.results import EnergyRow, InferenceEnergy, LatencyRow, MeasuredInference

RAPL = "measured: RAPL package, idle subtracted"


def measured(runtime: str, value: float, batch: int = 16, method: str = RAPL) -> EnergyRow:
    setting = {"runtime": runtime, "precision": "fp32", "batch": batch, "threads": 2}
    return EnergyRow(value=value, method=method, **setting, idle_w=9.0, seconds=5.1, images=800)


LATENCY = [latency_row("openvino", 1, 1.5), latency_row("openvino", 16, 8.0), latency_row("onnxruntime", 16, 16.0)]


def inference(*rows: EnergyRow, watts: float | None = None) -> MeasuredInference:
    return cost(latency=LATENCY, energy=inference_energy(rows, LATENCY, watts))


def test_measured_energy_comes_first() -> None:
    energy = inference_energy([measured("onnxruntime", 0.2), measured("openvino", 0.1)], LATENCY, 15)
    assert (energy.value, energy.method, energy.runtime, energy.batch) == (0.1, RAPL, "openvino", 16)
    assert (energy.idle_w, energy.seconds, energy.images) == (9.0, 5.1, 800)
    assert [row.value for row in energy.rows] == [0.2, 0.1]
    assert {row.method for row in energy.rows} == {RAPL}


def test_a_stated_power_makes_an_estimate_that_is_marked_as_one() -> None:
    energy = inference_energy([], LATENCY, 15)
    # 15 W x 8 ms / 16 images, the lowest time per image.
    assert energy.value == pytest.approx(0.0075)
    assert energy.method == "estimated: 15 W × latency"
    assert (energy.runtime, energy.batch, energy.idle_w) == ("openvino", 16, None)
    assert len(energy.rows) == 3 and all("estimated" in row.method for row in energy.rows)


@pytest.mark.parametrize("latency", [LATENCY, []])
def test_energy_is_unknown_without_counter_and_power(latency: Sequence[LatencyRow]) -> None:
    energy = inference_energy([], latency, None)
    assert energy == InferenceEnergy(value=None, method=None)
    figures = energy.model_dump(mode="json")
    assert figures.pop("rows") == []
    assert set(figures) >= {"value", "method", "runtime", "batch", "idle_w", "seconds"}
    assert all(value is None for value in figures.values())
    assert inference_carbon(energy, 300) is None


def test_carbon_has_the_method_of_its_energy() -> None:
    carbon = inference_carbon(inference_energy([], LATENCY, 14.4), 500)
    # 14.4 W x 0.5 ms = 7.2 mJ per image, 7.2 kJ = 0.002 kWh per million.
    assert carbon is not None and carbon.g_per_million_images == pytest.approx(1.0)
    assert carbon.method == "estimated: 14.4 W × latency"
    assert inference_carbon(inference_energy([], LATENCY, 14.4), None) is None


def test_measured_is_not_compared_with_estimated() -> None:
    counted, guessed = inference(measured("openvino", 0.2)), inference(watts=15)
    assert energy_basis(counted, guessed) is None
    assert energy_basis(guessed, inference(watts=16)) is None  # another power says nothing about the networks
    assert inference_doublings(counted, guessed).energy is None
    assert inference_doublings(guessed, guessed).energy == 0
    assert inference_doublings(counted, cost()).energy is None


def test_energies_are_compared_in_one_runtime_and_batch() -> None:
    reference = inference(measured("openvino", 0.4), measured("pytorch", 0.9), measured("openvino", 2.0, batch=1))
    variant = inference(measured("onnxruntime", 0.05), measured("openvino", 0.1), measured("pytorch", 0.3))
    basis = energy_basis(reference, variant)
    assert basis is not None
    assert (basis.runtime, basis.batch, basis.method, basis.ratio) == ("openvino", 16, RAPL, 4)
    assert inference_doublings(reference, variant).energy == 2
    assert energy_basis(reference, inference(measured("onnxruntime", 0.05))) is None
    assert energy_basis(reference, inference(measured("openvino", 0.05, batch=8))) is None
    assert energy_basis(reference, inference(measured("openvino", 0.05, method="measured: Jetson board"))) is None
