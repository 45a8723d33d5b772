"""Runs side by side: what changed, what moved, and what nobody may claim."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recompute import tango_upper

from compress.cli import main
from compress.errors import UsageError
from compress.report.compare import compare
from compress.report.compare_page import answer_lines, comparison_page, comparison_tables

Record = dict[str, Any]
Compared = Callable[[], Record]


def moved(record: Record, id: str) -> Record:
    (variant,) = (variant for variant in record["variants"] if variant["id"] == id)
    return variant["changes"][1]  # type: ignore[no-any-return]


def test_what_changed_is_named_and_the_rest_is_not(compared: Compared) -> None:
    record = compared()
    assert record["recipe"] == [{"key": "stages.pruned.target_macs", "values": [0.5, 0.25]}]
    assert record["environment"] == [{"key": "cpu", "values": ["AMD EPYC 9B14", "another"]}]


def test_the_same_images_are_compared_one_by_one(compared: Compared) -> None:
    top1 = moved(compared(), "pruned")["top1"]
    assert top1["paired"] and top1["images"] == 2500 and top1["verdict"] == "less"
    assert top1["difference"] == pytest.approx(-200 / 2500)
    low, high = -tango_upper(200, 0, 2500), tango_upper(0, 200, 2500)
    assert top1["ci95"] == pytest.approx([low, high], rel=1e-6)
    assert moved(compared(), "int8")["top1"] == {
        "difference": 0,
        "ci95": pytest.approx([-tango_upper(0, 0, 2500), tango_upper(0, 0, 2500)], rel=1e-4),
        "paired": True,
        "images": 2500,
        "verdict": "no claim",
    }


@pytest.mark.parametrize("lacking", ["digest", "bits", "other images"])
def test_without_the_same_images_a_claim_needs_intervals_apart(
    compared: Compared, results: Record, second: Record, lacking: str
) -> None:
    if lacking == "bits":
        del second["variants"][3]["accuracy"]["right"]
    elif lacking == "digest":
        del results["data"]["test_sha256"]
    else:
        second["data"]["test_sha256"] = "other"
    top1 = moved(compared(), "pruned")["top1"]
    assert (top1["paired"], top1["ci95"], top1["verdict"]) == (False, None, "less")
    second["variants"][3]["accuracy"] |= {"top1": 0.80, "ci95": [0.784, 0.815]}  # it was 0.8184, from 0.803 on
    assert moved(compared(), "pruned")["top1"]["verdict"] == "no claim"


def test_costs_and_latency(compared: Compared, second: Record) -> None:
    change = moved(compared(), "pruned")
    assert change["macs"] == pytest.approx(0.5, rel=1e-6) and change["bytes"] == 1
    assert {row["verdict"] for row in change["latency"]} == {"more"}
    assert {row["verdict"] for row in moved(compared(), "int8")["latency"]} == {"no claim"}
    second["efficiency"][0]["reference"] = "another"
    assert {row["verdict"] for row in moved(compared(), "pruned")["latency"]} == {"no claim"}


def test_a_variant_of_one_run_only(compared: Compared) -> None:
    record = compared()
    (new,) = (variant for variant in record["variants"] if variant["id"] == "new")
    assert new["runs"][0] is None and new["changes"] == [None, None]
    (accuracy,) = (table for table in comparison_tables(record) if table.key == "accuracy")
    assert [row[0] for row in accuracy.rows].count("new") == 1
    assert answer_lines(record) == [
        "pruned: top-1 of B is 8.0 points less (7.0 to 9.1) than A's; paired, 2,500 images."
    ]


def test_hostile_names_are_text(compared: Compared, second: Record) -> None:
    second["variants"][3]["id"] = "<script>alert(1)</script>"
    second["recipe"]["resolved"]["stages"][2]["</td><script>"] = "<img src=x>"
    html = comparison_page(compared())
    assert html.count("<script") == 1 and "<img" not in html and "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    "text", [None, "{", "[1]", "{}", '{"variants": [3]}', '{"variants": [{"id": "teacher", "accuracy": 3}]}']
)
def test_what_is_no_run_is_one_line(compared: Compared, tmp_path: Path, text: str | None) -> None:
    compared()
    other = tmp_path / "other"
    other.mkdir()
    if text:
        (other / "results.json").write_text(text)
    with pytest.raises(UsageError, match="other") as failed:
        compare([tmp_path / "first", other])
    assert "\n" not in str(failed.value)


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two runs or more"):
        compare([tmp_path])


def test_the_verb(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    compared()
    page, folders = tmp_path / "page.html", [str(tmp_path / name) for name in ("first", "second")]
    monkeypatch.setattr(sys, "argv", ["compress-model", "compare", *folders, "--html", str(page)])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as ended:
        main()
    shown = capsys.readouterr().out
    assert ended.value.code == 0 and "stages.pruned.target_macs" in shown and "8.0 points less" in shown
    assert "8.0 points less" in page.read_text()
