"""The record of `compress-model gap`: gaps of trends, and what the savings of a run offset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from results_factory import example, example_record

from compress.gap import gap_record, to_dict
from compress.gap.record import RunSaving, basis_of, run_savings
from compress.gap.trend import load_trend
from compress.utils.errors import UsageError

INFERENCE, TRAINING = RunSaving("inference", "a", "b", 1.0), RunSaving("training", "a", "b", 2.0)


def test_a_run_saves_granted_inference_and_reached_training() -> None:
    found = run_savings(example_record())
    assert [(saving.of, saving.variant, saving.against) for saving in found] == [
        ("inference", "pruned", "distilled"),
        ("inference", "int8", "distilled"),
        ("training", "distilled", "scratch"),
    ]
    assert found[0].doublings == pytest.approx(1.01, abs=0.01)


def test_only_training_delays_the_gap() -> None:
    inference, training = basis_of(load_trend("epoch-fp32"), 2012, 2024, [INFERENCE, TRAINING]).savings
    assert inference.months_of_growth == pytest.approx(5.9, abs=0.05) and inference.months_of_gap is None
    assert training.months_of_gap == pytest.approx(15, abs=0.1)
    assert training.hold == "To hold the gap, you would need this again every 15.0 months."


def test_a_trend_is_not_extrapolated() -> None:
    basis = basis_of(load_trend("openai"), 2012, 2024, [])
    assert basis.gap is basis.gap_interval is basis.years_to_catch_up is None
    assert basis_of(load_trend("openai"), 2012, 2018, []).gap is not None


def test_the_interval_needs_both_growths() -> None:
    both, one = (basis_of(load_trend(name), 2012, 2018, []) for name in ("epoch-fp32", "energy"))
    assert both.gap_interval is not None and both.gap is not None and both.gap_interval.level == 0.9
    assert both.gap_interval.low < both.gap < both.gap_interval.high
    assert one.gap_interval is None


def test_json_leaves_out_what_a_trend_does_not_have(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps(example()))
    record = to_dict(gap_record(["energy"], 2012, 2024, tmp_path))
    (basis,) = record["bases"]
    assert basis["gap_interval"] is None and "hardware_ci90" not in basis and "until" not in basis
    assert [saving["variant"] for saving in basis["savings"]] == ["pruned", "int8", "distilled"]
    assert json.loads(json.dumps(record, allow_nan=False))["run"] == str(tmp_path)


def test_wrong_calls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown trend 'moore'"):
        gap_record(["moore"], 2012, 2024)
    with pytest.raises(UsageError, match="must be later"):
        gap_record([], 2024, 2012)
    with pytest.raises(UsageError, match="is not a run"):
        gap_record([], 2012, 2024, tmp_path)
