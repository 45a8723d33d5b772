"""The quantize stage with all of its settings, on tiny data."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support import Job

from compress.models.checkpoints import load_variant
from compress.quantization.capture import layer_bits
from compress.recipe.load import load_recipe
from compress.stages.quantize import QuantizeStage

HELD = """\
  - {id: held, kind: quantize, from: distilled, observer: percentile, calibrate_on: train, calibration_images: 24,
     calibration_seed: 5, keep: ["conv1.0"], keep_accuracy: 0.0}
"""


@pytest.fixture
def held_job(done_job: Callable[[], Job]) -> Job:
    job = done_job()
    job.write(deployed=False)
    job.recipe.write_text(job.recipe.read_text().replace("measure:", HELD + "measure:"))
    return job


@pytest.mark.slow
def test_layers_kept_in_float_are_recorded_and_charged(held_job: Job) -> None:
    finished = held_job.run_here()
    assert finished.returncode == 0, finished.stderr
    held = next(variant for variant in held_job.results()["variants"] if variant["id"] == "held")
    record = held["quantization"]
    assert record["observer"] == "percentile" and record["calibration_images"] == 24
    assert record["keep"] == ["conv1.0", *record["keep_found"]]
    assert record["trials"][0]["keep"] == []
    last = next(trial for trial in record["trials"] if trial["keep"] == record["keep_found"])
    store = held_job.runs / "store" / held["stage_key"]
    network = load_variant(store)
    graph, quantization = network.model, network.architecture.quantization
    bits = layer_bits(graph)
    assert not set(record["keep"]) & set(bits) and bits
    assert held["inference"]["bit_operations"] > 64 * held["inference"]["macs"]
    assert held["inference"]["quantized_convs"] < held["inference"]["total_convs"]
    assert quantization and list(quantization.keep) == record["keep"]
    parts = {part["what"]: part["macs"] for part in held["training"]["parts"]}
    networks = len(record["trials"]) + len(record["sensitivity"])  # each is calibrated exactly once
    (spent,) = (macs for what, macs in parts.items() if what.startswith("calibration on 24 images"))
    assert spent == networks * 24 * held["inference"]["macs"]
    assert any(what.startswith("validation of ") for what in parts)
    assert 0 <= last["top1"] <= 1
    saved = np.load(store / "test_logits.npy")
    assert saved.shape[0] == 120 and torch.isfinite(torch.from_numpy(saved)).all()
    report = next((held_job.runs / "tiny").glob("*/report.md")).parent.parent
    assert any("Layers in float" in page.read_text() for page in report.glob("*/report.md"))


FOUR = """\
  - {id: four, kind: quantize, from: distilled, method: onnxruntime, calibration_images: 24, linear_weight_bits: 4}
  - {id: fours, kind: export, from: [four], runtimes: [onnxruntime, openvino]}
"""


@pytest.mark.slow
def test_4_bit_weights_are_measured_and_reported(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    job.recipe.write_text(job.recipe.read_text().replace("measure:", FOUR + "measure:"))
    finished = job.run_here()
    assert finished.returncode == 0, finished.stderr
    variants = {variant["id"]: variant for variant in job.results()["variants"]}
    four, dense = variants["four"]["inference"], variants["distilled"]["inference"]
    rows = {row["kind"]: row for row in four["widths"]}
    assert (rows["linear"]["weight_bits"], rows["linear"]["activation_bits"], rows["linear"]["layers"]) == (4, 8, 1)
    assert (rows["convolution"]["weight_bits"], rows["convolution"]["activation_bits"]) == (8, 8)
    assert rows["convolution"]["layers"] == four["total_convs"] == four["quantized_convs"]
    in_fours, in_eights = (rows[kind]["macs_share"] for kind in ("linear", "convolution"))
    assert four["bit_operations"] == pytest.approx(four["macs"] * (32 * in_fours + 64 * in_eights))
    assert four["weight_bits"] == 4 and four["bytes"] < dense["bytes"] / 2
    assert variants["four"]["quantization"]["linear_weight_bits"] == 4
    assert {row["precision"] for row in four["latency"]} == {"int8/int4"}
    for row in variants["four"]["artifacts"]:
        assert row["top1_agreement"] > 0.9 and row["integer_convs"] == row["total_convs"], row
    report = max((job.runs / "tiny").glob("*/report.md"), key=lambda path: path.stat().st_mtime_ns).read_text()
    assert "Widths of the quantized layers" in report and "4 and 8 (activations 8)" in report


def test_a_network_whose_layers_cannot_be_compared_is_quantized_all_the_same(
    done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unpaired(*_: object, **__: object) -> None:
        raise KeyError("conv1")

    job = done_job()
    text = job.recipe.read_text()
    assert "calibration_images: 32" in text
    job.recipe.write_text(text.replace("calibration_images: 32", "calibration_images: 31"))
    monkeypatch.setattr("compress.stages.quantize.make.explain", unpaired)
    finished = job.run_here()
    assert finished.returncode == 0, finished.stderr
    assert "int8: the errors of its layers cannot be measured: KeyError: 'conv1'" in finished.stderr
    int8 = next(variant for variant in job.results()["variants"] if variant["id"] == "int8")
    assert int8["quantization"]["method"] and "noise" not in int8["quantization"]


def test_each_runtime_gets_a_file_by_its_method_from_the_same_float_network(done_job: Callable[[], Job]) -> None:
    results = done_job().results()
    int8 = next(variant for variant in results["variants"] if variant["id"] == "int8")
    files = {file["runtime"]: file for file in int8["artifacts"]}
    assert int8["quantization"]["method"] == "torchao"
    assert {name: file["method"] for name, file in files.items()} == {
        "onnxruntime": "onnxruntime",
        "openvino": "torchao",
    }
    assert all(
        file["integer_convs"] == file["total_convs"] and file["integer_macs_share"] > 0.99 for file in files.values()
    )
    assert files["onnxruntime"]["top1_agreement"] > 0.9, "with the float network"
    parts = {part["what"]: part["macs"] for part in int8["training"]["parts"]}
    assert parts["calibration by onnxruntime"] == parts["calibration on 32 images"] == 32 * int8["inference"]["macs"]
    assert files["onnxruntime"]["calibration_macs"] == 32 * int8["inference"]["macs"]
    assert "calibration_macs" not in files["openvino"]
    assert int8["training"]["macs"] == sum(parts.values())


def test_why_int8_hurts_is_measured_and_reported(done_job: Callable[[], Job]) -> None:
    job = done_job()
    int8 = next(variant for variant in job.results()["variants"] if variant["id"] == "int8")
    noise = int8["quantization"]["noise"]
    network = load_variant(job.runs / "store" / int8["stage_key"]).model
    assert {layer["layer"] for layer in noise["layers"]} <= set(layer_bits(network))
    assert len(noise["layers"]) + noise["layers_left_out"] == len(layer_bits(network))
    assert noise["calibration_images"] == 32 and noise["validation_images"] > 0
    assert noise["logits_sqnr_db"] > 5 and noise["covers"] in (True, False)
    removed = [layer["removes"] for layer in noise["layers"] if "removes" in layer]
    assert removed == sorted(removed, reverse=True) and removed
    report = next((job.runs / "tiny").glob("*/report.md")).read_text()
    assert "Layers that INT8 hurts" in report and "Calibration sets" in report


def test_the_diagnosis_is_in_the_key_only_where_it_is_left_out(done_job: Callable[[], Job]) -> None:
    recipe = load_recipe(done_job().recipe)
    stage = QuantizeStage.model_validate({"id": "int8", "kind": "quantize", "from": "distilled"})
    default = stage.key_settings(recipe)
    assert "diagnose" not in default and "observers" not in default
    assert stage.model_copy(update={"diagnose": False}).key_settings(recipe) == {**default, "diagnose": False}
    searched = stage.model_copy(update={"keep_accuracy": 0.01})
    assert searched.key_settings(recipe) == {**default, "keep_accuracy": 0.01, "observers": "tried"}


def test_invalid_settings_are_one_line_errors(held_job: Job) -> None:
    def error(old: str, new: str) -> str:
        text = held_job.recipe.read_text()
        held_job.recipe.write_text(text.replace(old, new))
        finished = held_job.run_here()
        held_job.recipe.write_text(text)
        lines = [line for line in finished.stderr.splitlines() if line.startswith("error: ")]
        assert finished.returncode in (1, 2) and len(lines) == 1, finished.stderr
        return lines[0]

    assert "no layer matches 'conv7'" in error('"conv1.0"', "conv7")
    assert "observer" in error("observer: percentile", "observer: guess")
