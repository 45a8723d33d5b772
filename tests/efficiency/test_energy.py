"""Energy of inference: what was measured before what was estimated, and the two never compared."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from results_factory import inference as cost
from results_factory import latency_row

from compress.efficiency.comparison import energy_basis
from compress.efficiency.energy import inference_carbon, inference_energy
from compress.results import EnergyBasis, EnergyRow, InferenceEnergy, LatencyRow, MeasuredInference

ALL = ("openvino", "onnxruntime", "pytorch")
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


def basis(reference: InferenceEnergy, variant: InferenceEnergy, runtimes: tuple[str, ...] = ALL) -> EnergyBasis | None:
    return energy_basis(reference.rows, variant.rows, ALL, runtimes)


def test_measured_is_not_compared_with_estimated() -> None:
    counted, guessed = measured_energy(measured("openvino", 0.2)), inference_energy([], LATENCY, 15)
    assert basis(counted, guessed) is None
    assert basis(guessed, inference_energy([], LATENCY, 16)) is None  # another power says nothing about the networks
    same = basis(guessed, guessed)
    assert same and same.ratio == 1


def test_the_least_energy_of_each_is_compared_at_the_largest_batch() -> None:
    reference = measured_energy(measured("openvino", 0.4), measured("pytorch", 0.9), measured("openvino", 2, batch=1))
    variant = measured_energy(measured("onnxruntime", 0.05), measured("openvino", 0.1), measured("pytorch", 0.3))
    found = basis(reference, variant, ("openvino", "pytorch"))  # the file for onnxruntime is not granted
    assert found is not None
    assert (found.runtime, found.reference_runtime, found.batch, found.ratio) == ("openvino", "openvino", 16, 4)
    assert basis(reference, measured_energy(measured("openvino", 0.05, batch=8))) is None
    assert basis(reference, measured_energy(measured("openvino", 0.05, method="measured: Jetson board"))) is None


def measured_energy(*rows: EnergyRow) -> InferenceEnergy:
    return inference_energy(rows, [], None)
