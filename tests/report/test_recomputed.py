"""The figures of a report follow from `results.json` alone, and the pages show those figures."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from recompute import recompute, tango_upper

from compress.report import formats as f
from compress.report import render_markdown
from compress.results import RunRecord

Results = dict[str, Any]


def test_derived_figures_follow_from_measured_ones(results: Results) -> None:
    assert recompute(RunRecord.model_validate(results)) > 80


@pytest.mark.parametrize(
    "path",
    [
        ("efficiency", 0, "variants", 2, "doublings", "macs"),
        ("efficiency", 0, "variants", 2, "difference_ci95", 1),
        ("efficiency", 0, "variants", 2, "break_even_queries"),
        ("efficiency", 0, "variants", 2, "months_of_growth"),
        ("training_efficiency", 0, "ratio"),
        ("variants", 2, "accuracy", "ci95", 0),
        ("variants", 2, "training", "macs"),
        ("variants", 3, "inference", "latency", 1, "p50_ms"),
        ("variants", 3, "inference", "latency", 1, "ratio_to_reference"),
        ("class_changes", 1, "classes", 0, "difference"),
        ("class_changes", 1, "classes", 0, "difference_ci95", 1),
    ],
)
def test_recomputation_detects_a_wrong_figure(results: Results, path: tuple[Any, ...]) -> None:
    wrong = copy.deepcopy(results)
    *way, last = path
    holder: Any = wrong
    for step in way:
        holder = holder[step]
    value = holder[last] * 1.001
    holder[last] = round(value) if isinstance(holder[last], int) else value
    with pytest.raises(AssertionError):
        recompute(RunRecord.model_validate(wrong))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("class_changes", 1, "classes", 0, "variant_correct"), 3),
        (("disagreements", "examples", 0, "student", "class"), "horse"),
        (("disagreements", "examples", 1, "image"), 7),
        (("variants", 4, "accuracy", "right"), "00" * 313),
    ],
)
def test_recomputation_detects_a_wrong_prediction(results: Results, path: tuple[Any, ...], value: Any) -> None:
    *way, last = path
    holder: Any = results
    for step in way:
        holder = holder[step]
    assert holder[last] != value
    holder[last] = value
    with pytest.raises(AssertionError):
        recompute(RunRecord.model_validate(results))


def test_page_shows_the_figures_of_the_file(results: Results) -> None:
    text = render_markdown(RunRecord.model_validate(results))
    for entry in results["efficiency"]:
        for record in entry["variants"]:
            row = [line for line in text.splitlines() if line.startswith(f"| {record['id']} | ")]
            cell = f"{f.signed(record['doublings']['macs'])} | {f.signed(record['doublings']['bit_operations'])}"
            assert any(cell in line.replace("\\", "") for line in row), cell
            for point in (record["lifetime"] or {}).get("at_queries", []) if record["doublings"]["macs"] > 0 else []:
                assert f.times(point["ratio"]) in text
    for pair in results["training_efficiency"]:
        months = [pair["months_of_growth"], pair["months_of_gap"]]
        cells = "none | none" if pair["censored"] else " | ".join(map(f.months, months))
        assert f"{f.signed(pair['doublings'])}" in text and cells in text.replace("\\", "")


def test_tango_upper_end_without_discordant_images() -> None:
    # Without discordant images the upper end is z^2 / (n + z^2): the helper is right where the answer is known.
    assert tango_upper(0, 0, 381) == pytest.approx(3.841459 / (381 + 3.841459), rel=1e-4)
