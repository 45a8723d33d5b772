"""A file reaches a target with the lower end of its interval, and doublings need that of both."""

from __future__ import annotations

from typing import Any

import pytest

from compress.report import render_html, render_markdown
from compress.report.targets import target_tables
from compress.results import RunRecord


def _file(top1: float, low: float, size: int) -> dict[str, Any]:
    file = {"runtime": "openvino", "format": "openvino", "path": "a", "bytes": size}
    return file | {"top1": top1, "ci95": [low, top1 + 0.005]}


@pytest.fixture
def targeted(results: dict[str, Any]) -> dict[str, Any]:
    results["recipe"]["resolved"]["worth"]["targets"] = [0.85]
    reference = results["efficiency"][0]["reference"]
    for variant in results["variants"]:
        variant["artifacts"] = []
        if variant["id"] == reference:
            variant["inference"]["macs"], variant["artifacts"] = 16_000_000, [_file(0.88, 0.875, 90_000)]
    others = [variant for variant in results["variants"] if variant["id"] != reference]
    others[0]["inference"]["macs"], others[0]["artifacts"] = 4_000_000, [_file(0.86, 0.85, 60_000)]
    others[1]["inference"]["macs"], others[1]["artifacts"] = 2_000_000, [_file(0.852, 0.845, 30_000)]
    return results


def test_a_file_reaches_a_target_with_the_lower_end_of_its_interval(targeted: dict[str, Any]) -> None:
    record = RunRecord.model_validate(targeted)
    (table,) = target_tables(record)
    assert [row[4:] for row in table.rows] == [
        ("no", "2 MMACs", "30 kB", "none: not shown to reach it"),
        ("yes", "4 MMACs", "60 kB", "+2.00"),
        ("yes", "16 MMACs", "90 kB", "0.00"),
    ]
    for page in (render_html(record), render_markdown(record)):
        assert "Accuracy targets" in page and "shown to reach it" in page


def test_no_doublings_where_the_reference_misses_the_target(targeted: dict[str, Any]) -> None:
    targeted["recipe"]["resolved"]["worth"]["targets"] = [0.85, 0.88]
    (table,) = target_tables(RunRecord.model_validate(targeted))
    assert len(table.rows) == 6 and {row[7] for row in table.rows[3:]} == {"none: not shown to reach it"}


def test_the_network_of_a_reference_without_files_counts(targeted: dict[str, Any]) -> None:
    name = targeted["efficiency"][0]["reference"]
    reference = next(variant for variant in targeted["variants"] if variant["id"] == name)
    reference["artifacts"] = []
    for low, doublings in ((0.86, "+2.00"), (0.84, f"none: {name} is not shown to reach it")):
        reference["accuracy"] |= {"top1": low + 0.01, "ci95": [low, low + 0.02]}
        (table,) = target_tables(RunRecord.model_validate(targeted))
        assert [row[7] for row in table.rows] == ["none: not shown to reach it", doublings]


def test_no_table_without_targets(results: dict[str, Any]) -> None:
    assert target_tables(RunRecord.model_validate(results)) == []
