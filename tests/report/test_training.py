"""Tables of training: bounds are shown as bounds, and the teacher's own training in three ways."""

from __future__ import annotations

from typing import Any

import pytest

from compress.report import render_markdown
from compress.report.training import doublings, training_tables
from compress.results import RunRecord, TrainingEfficiency

Results = dict[str, Any]


def pair(results: Results, **changes: Any) -> TrainingEfficiency:
    return TrainingEfficiency.model_validate({**results["training_efficiency"][1], **changes})


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"doublings": -2.0, "censored": "baseline"}, "at least −2.00; the baseline never reached it"),
        ({"doublings": -1.2, "censored": "variant"}, "at most −1.20; the variant never reached it"),
        ({"doublings": None, "censored": "both"}, "neither reached it"),
        ({"doublings": None, "censored": None, "bracket": (-1, 0.5)}, "−1.00 to +0.50"),
        ({"doublings": None, "censored": None, "bracket": (None, None)}, "unknown"),
        ({"doublings": -1.8, "censored": None, "doublings_ci95": (-2.1, -1.5)}, "−1.80 (−2.10 to −1.50)"),
        ({"doublings": -1.8, "censored": None, "doublings_ci95": (-2.1, None)}, "−1.80 (at least −2.10)"),
        ({"doublings": -1.8, "censored": None, "doublings_ci95": None}, "−1.80"),
    ],
)
def test_doublings_are_a_figure_a_bound_or_a_bracket(results: Results, changes: Results, text: str) -> None:
    assert doublings(pair(results, **changes)) == text


def test_bound_has_no_months(results: Results) -> None:
    table = training_tables(RunRecord.model_validate(results))[1]
    bounds = [row for row in table.rows if "never reached it" in row[5]]
    assert bounds and all(row[-2:] == ("none", "none") for row in bounds)
    figures = [row for row in table.rows if "never" not in row[5]]
    assert figures and all("none" not in row[-2:] for row in figures)


def test_note_says_what_the_curves_cannot_show(results: Results) -> None:
    text = render_markdown(RunRecord.model_validate(results)).replace("\\", "")
    assert "Points within a schedule have not had its last, lowest learning rates" in text
    assert "No baseline had the compute of a variant; `worth.compute_matched: true` trains it for as long." in text
    for row in results["training_efficiency"]:
        row["doublings_ci95"] = None
    text = render_markdown(RunRecord.model_validate(results))
    assert "There are none here, because the curves were stored without results per image." in text


def test_training_of_the_teacher_has_three_rows(results: Results) -> None:
    (row,) = [row for row in results["training_efficiency"] if row["primary"] and row["variant"] == "distilled"]
    results["training_efficiency"] = [row]
    row["with_teacher_fine_tuning"] = {"macs": 2e14, "ratio": 0.25, "doublings": -2.0}
    row["with_teacher_pretraining"] = {"macs": 5e17, "ratio": 2**-13, "doublings": -13.0}
    tables = {table.key: table for table in training_tables(RunRecord.model_validate(results))}
    assert [cells[1:] for cells in tables["teacher"].rows][1:] == [
        ("fine-tuning only", "200 TMACs", "at least −2.00"),
        ("in full", "500 PMACs", "at least −13.00"),
    ]
    assert tables["teacher"].rows[0][1] == "as 0"
    row["with_teacher_pretraining"] = {"macs": 0, "ratio": row["ratio"], "doublings": row["doublings"]}
    assert "teacher" not in {table.key for table in training_tables(RunRecord.model_validate(results))}


def test_variant_stands_beside_its_compute_matched_control(results: Results) -> None:
    control = {"of": "distilled", "gain": 0.1, "gain_ci95": [0.08, 0.12], "repeats": "scratch"}
    results["variants"].append({**results["variants"][1], "id": "longer", "kind": "match", "control": control})
    tables = {table.key: table for table in training_tables(RunRecord.model_validate(results))}
    (row,) = tables["matched"].rows
    assert row[0] == "distilled" and row[2] == "longer" and row[4] == "10.0 points more (8.0 to 12.0)"
    assert "| controls |" not in render_markdown(RunRecord.model_validate(results))
