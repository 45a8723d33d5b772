"""Records of a run: what they keep of a file, what they leave out, and the ledger's arithmetic."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from results_factory import accuracy, example, example_record, inference

from compress.results import (
    Accuracy,
    Artifact,
    CurvePoint,
    DataSummary,
    Disagreements,
    Divergence,
    Embeddings,
    EnergyMeasurement,
    Environment,
    Inference,
    LatencyMeasurements,
    LayerNoise,
    Ledger,
    MillionImages,
    PeakMemoryBasis,
    Pruning,
    Quality,
    Quantization,
    QuantizationNoise,
    QuantizationTrial,
    Record,
    RunInfo,
    RunRecord,
    RuntimeCandidate,
    TrainingPart,
    VariantMetrics,
)


def test_a_record_and_its_file_say_the_same(tmp_path: Path) -> None:
    record = example_record()
    record.write(tmp_path / "results.json")
    assert RunRecord.read(tmp_path / "results.json") == record
    assert json.loads((tmp_path / "results.json").read_text()) == example() == record.model_dump(mode="json")
    assert RunRecord.model_validate(example()).to_json() == record.to_json()


ABSENT: dict[type[Record], tuple[str, ...]] = {
    Accuracy: ("right",),
    Artifact: ("right", "quality", "embeddings", "method", "temperature", "calibration_macs", "not_run"),
    DataSummary: ("held_out", "remarks", "test_labels"),
    Environment: ("cpu_quota", "energy_counter", "instructions"),
    Inference: ("widths",),
    Ledger: ("interrupted", "steps", "precision"),
    MillionImages: ("energy_method",),
    Pruning: ("sensitivity", "latency_trials", "left_whole"),
    LayerNoise: (
        "removes",
        "channel_spread",
        "saturated_validation",
        "outside",
        "outside_images",
        "half_range",
    ),
    Quantization: ("linear_weight_bits", "calibration_images", "aware", "keep_found", "sensitivity", "trials", "noise"),
    QuantizationNoise: ("outside", "half_range"),
    QuantizationTrial: ("observer",),
    RunInfo: ("wall_s", "sweep"),
    PeakMemoryBasis: ("precision", "threads"),
    Quality: ("top5", "top5_ci95", "top5_right"),
    RuntimeCandidate: ("slower_than_fp32",),
    VariantMetrics: ("validation", "preprocess", "remarks", "pruning", "sparsity", "quantization", "embeddings"),
    Embeddings: ("cosine", "rank_correlation", "teacher"),
}
"""Keys that are left out of the JSON where they do not apply; every other unknown value is null."""


@pytest.mark.parametrize("model", ABSENT, ids=lambda model: model.__name__)
def test_keys_that_do_not_apply_are_left_out(model: type[Record]) -> None:
    values = dict.fromkeys(model.model_fields)
    bare = model.model_construct(**values).model_dump(mode="json")
    assert set(model.model_fields) - set(bare) == set(ABSENT[model])


def test_an_optional_key_is_written_where_it_applies() -> None:
    full = {"linear_weight_bits": 4, "calibration_images": 512, "keep_found": [], "sensitivity": {}, "trials": []}
    stored = {"method": "nncf", "observer": "minmax", "keep": [], **full}
    assert Quantization.model_validate(stored).model_dump(mode="json") == stored
    aware = {"method": "torchao", "observer": None, "keep": ["fc"], "aware": True}
    assert Quantization.model_validate(aware).model_dump(mode="json") == aware


def test_class_is_the_key_of_a_class_name() -> None:
    found = Disagreements.model_validate(example()["disagreements"]).examples[0].teacher
    assert set(found.model_dump(mode="json")) == {"class", "probability"}


def test_records_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        example_record().variants[0].accuracy.top1 = 1.0  # type: ignore[misc]


def test_keys_of_a_later_version_are_ignored() -> None:
    later: dict[str, Any] = {**example(), "new": 1}
    later["variants"][0]["accuracy"]["new"] = 1
    assert RunRecord.model_validate(later) == example_record()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1.1, -0.1, "x", None])
def test_a_fraction_is_a_number_from_0_to_1(value: Any) -> None:
    with pytest.raises(ValidationError):
        Accuracy.model_validate({**accuracy().model_dump(), "top1": value})


def test_whole_numbers_stay_whole() -> None:
    queries = [at["queries"] for at in example()["efficiency"][0]["variants"][3]["lifetime"]["at_queries"]]
    assert [type(number) for number in queries] == [int, int, int]


def test_a_ledger_starts_with_all_that_was_spent_on_its_parent() -> None:
    empty = Ledger.start()
    assert (empty.macs, empty.parts, empty.interrupted, empty.selected_on, empty.steps) == (0, (), 0, "last", None)
    parent = Ledger(
        macs=10,
        parts=(TrainingPart(what="student", macs=10),),
        interrupted=3,
        diverged=(Divergence(epoch=1, loss="nan"),),
        wall_s=2.5,
        views={"teacher": 4},
        curve=(CurvePoint(macs=10, top1=0.5),),
        selected_on="test",
        steps=7,
    )
    child = Ledger.start(parent)
    assert child == parent.model_copy(update={"curve": (), "steps": None})
    assert "steps" not in child.model_dump(mode="json")


def test_charging_a_ledger_returns_a_new_one() -> None:
    before = Ledger.start()
    after = before.charge("teacher", 5.0).charge("student", 7)
    assert before == Ledger.start()
    assert after.macs == 12 and [(part.what, part.macs) for part in after.parts] == [("teacher", 5), ("student", 7)]
    assert '"macs": 5.0' not in after.to_json()


def test_ledgers_of_earlier_versions_are_read(tmp_path: Path) -> None:
    stored = {"macs": 1, "parts": [{"what": "student", "macs": 1}], "wall_s": 1.0, "views": {}, "curve": []}
    ledger = Ledger.model_validate(stored)
    assert (ledger.interrupted, ledger.diverged, ledger.selected_on) == (None, (), "last")
    assert Ledger.start(ledger).interrupted == 0
    metrics = {"accuracy": accuracy().model_dump(), "inference": inference().model_dump(), "training": stored}
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    assert VariantMetrics.read(tmp_path / "metrics.json").training == ledger


def test_latency_of_earlier_versions_is_read() -> None:
    stored = {"latency": {"a": []}, "peak_memory_bytes": {"a": None}, "gpu": None}
    measured = LatencyMeasurements.model_validate(stored)
    assert (measured.choices, measured.peak_memory_basis) == ({}, {})


def test_energy_no_higher_than_idle_has_no_row() -> None:
    setting = {"runtime": "openvino", "precision": "fp32", "batch": 16, "threads": 2}
    figures = {"idle_w": 9.0, "seconds": 5.0, "images": 800}
    measured = EnergyMeasurement(value=0.1, method="measured: RAPL", resolution=32, **setting, **figures)
    row = measured.row()
    assert row is not None and row.model_dump() == {"value": 0.1, "method": "measured: RAPL", **setting, **figures}
    assert measured.model_copy(update={"value": None, "method": None}).row() is None


def test_the_records_import_nothing_but_utils() -> None:
    code = (
        "import sys, compress.results, compress.results.read, compress.results.schema;"
        "own = {name.split('.')[1] for name in sys.modules if name.startswith('compress.')};"
        "assert own == {'results', 'utils'}, own; assert not {'torch', 'numpy', 'yaml'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
