"""Comparison of runs: what differs, which results changed, and what is not claimed."""

from __future__ import annotations

import math
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recompute import tango_upper
from results_factory import N, accuracy

from compress.cli import main
from compress.efficiency.intervals import wilson
from compress.gate.gate import gate
from compress.report.compare import compare
from compress.report.compare_chart import comparison_chart, comparison_svg
from compress.report.compare_page import (
    change_lines,
    comparison_page,
    comparison_tables,
    remark_lines,
    write_comparison,
)
from compress.report.comparison import Change, Comparison, Figures
from compress.report.run_changes import Predicted, accuracy_change, latency_change, of_network
from compress.report.sides import Absent, pair
from compress.results import RunRecord
from compress.results.read import read_run
from compress.utils.checksums import write_sums
from compress.utils.errors import UsageError

Results = dict[str, Any]
Compared = Callable[[], Comparison]


def change_of(comparison: Comparison, id: str) -> Change:
    (variant,) = (variant for variant in comparison.variants if variant.id == id)
    change = variant.changes[1]
    assert change is not None
    return change


def test_only_settings_that_differ_are_listed(compared: Compared) -> None:
    record = compared()
    assert record.model_dump(mode="json")["recipe"] == [{"key": "stages.pruned.target_macs", "values": [0.5, 0.25]}]
    assert record.model_dump(mode="json")["environment"] == [{"key": "cpu", "values": ["AMD EPYC 9B14", "another"]}]


def test_same_images_are_compared_image_by_image(compared: Compared) -> None:
    top1 = change_of(compared(), "pruned").top1
    assert top1.paired and top1.images == 2500 and top1.verdict == "less"
    assert top1.difference == pytest.approx(-200 / 2500)
    low, high = -tango_upper(200, 0, 2500), tango_upper(0, 200, 2500)
    assert top1.ci95 == pytest.approx([low, high], rel=1e-6)
    assert change_of(compared(), "int8").top1.model_dump(mode="json") == {
        "difference": 0,
        "ci95": [0, 0],  # it is the same model
        "paired": True,
        "images": 2500,
        "same_data": True,
        "verdict": "no claim",
    }


@pytest.mark.parametrize("lacking", ["bits", "other images"])
def test_without_the_same_images_accuracies_are_two_samples(compared: Compared, second: Results, lacking: str) -> None:
    if lacking == "bits":
        del second["variants"][3]["accuracy"]["right"]
    else:
        second["data"]["test_sha256"] = "other"
    top1 = change_of(compared(), "pruned").top1
    assert (top1.paired, top1.images, top1.verdict) == (False, None, "less")
    old, new = wilson(2046, N), wilson(1846, N)
    low = -200 / N - math.hypot(1846 / N - new[0], old[1] - 2046 / N)  # Newcombe's method 10
    assert top1.ci95 is not None and top1.ci95[0] == pytest.approx(low)
    for correct, verdict in ((2000, "no claim"), (1980, "less")):  # 1980: intervals overlap, and the loss is shown
        second["variants"][3]["accuracy"] |= accuracy(correct, N).model_dump(mode="json")
        assert change_of(compared(), "pruned").top1.verdict == verdict


def test_latency_is_compared_by_ratios_to_the_same_reference(compared: Compared, second: Results) -> None:
    second["environment"]["cpu"] = "AMD EPYC 9B14"
    change = change_of(compared(), "pruned")
    assert change.macs == pytest.approx(0.5, rel=1e-6) and change.bytes == 1
    assert {row.verdict for row in change.latency} == {"more"}
    assert {row.verdict for row in change_of(compared(), "int8").latency} == {"no claim"}
    second["efficiency"][0]["reference"] = "another"
    assert {row.verdict for row in change_of(compared(), "pruned").latency} == {"no claim"}


def test_a_gate_measures_changes_as_a_comparison_does(compared: Compared, second: Results, tmp_path: Path) -> None:
    second["environment"]["cpu"] = "AMD EPYC 9B14"
    change = change_of(compared(), "pruned")
    checks = {
        check.metric: (check.measured, check.ci95)
        for check in gate(
            tmp_path / "second", tmp_path / "first", ("top1>=-1pt", "latency.*.*<=+5%"), ("pruned",)
        ).checks
    }
    assert checks.pop("top1") == (change.top1.difference, change.top1.ci95)
    assert checks == {f"latency.{row.runtime}.{row.batch}": (row.slower, row.slower_ci95) for row in change.latency}
    assert all(row.slower == pytest.approx(-0.5) and row.slower_ci95 for row in change.latency)


@pytest.mark.parametrize("images", [20, 40])
def test_few_images_show_nothing(compared: Compared, results: Results, second: Results, images: int) -> None:
    """Fewer than a gate decides on: the interval is an approximation."""
    for run, right in ((results, "f" * 10), (second, "0" * 10)):
        run["data"]["test"] = images
        whole = accuracy(images * (right[0] == "f"), images, right[: images // 4])
        run["variants"][3]["accuracy"] = whole.model_dump(mode="json")
    assert change_of(compared(), "pruned").top1.verdict == ("less" if images >= 30 else "no claim")


@pytest.mark.parametrize("key", ["another", None])
def test_no_speed_is_claimed_over_another_reference(compared: Compared, second: Results, key: str | None) -> None:
    """The variant is as fast as before; only the model that it is timed against is another."""
    second["environment"]["cpu"] = "AMD EPYC 9B14"
    name = second["efficiency"][0]["reference"]
    next(variant for variant in second["variants"] if variant["id"] == name)["stage_key"] = key
    assert {row.verdict for row in change_of(compared(), "pruned").latency} == {"no claim"}
    assert "B and A have no reference that is the same model: no claim about latency." in remark_lines(compared())


def test_no_speed_is_claimed_across_versions_of_a_runtime(compared: Compared, second: Results) -> None:
    second["environment"] |= {"cpu": "AMD EPYC 9B14", "packages": {"openvino": "2027.0.0"}}
    latency = change_of(compared(), "pruned").latency
    assert {row.verdict for row in latency if row.runtime == "openvino"} == {"no claim"}
    assert {row.verdict for row in latency if row.runtime != "openvino"} <= {"more"}
    (line,) = (line for line in remark_lines(compared()) if "another version" in line)
    assert line == "B was timed with another version of openvino than A (2027.0.0, not 2026.3.0): no claim there."


@pytest.mark.parametrize("lacking", [None, "digests", "bits"])
def test_note_says_image_by_image_only_where_all_are(
    compared: Compared, results: Results, second: Results, lacking: str | None
) -> None:
    if lacking == "digests":
        results["data"]["test_sha256"] = second["data"]["test_sha256"] = None
    if lacking == "bits":
        del second["variants"][3]["accuracy"]["right"]
    (runs,) = (table for table in comparison_tables(compared()) if table.key == "runs")
    assert runs.note.startswith("All runs used the same test images") == (lacking is None)


def test_no_speed_is_claimed_from_one_process(compared: Compared, second: Results) -> None:
    second["environment"]["cpu"] = "AMD EPYC 9B14"
    for row in second["variants"][3]["inference"]["latency"]:
        row["rounds_ms"] = row["rounds_ms"][:1]
    assert {(row.processes, row.verdict) for row in change_of(compared(), "pruned").latency} == {((3, 1), "no claim")}


@pytest.mark.parametrize(
    ("name", "value"), [("cpu", "another"), ("threads", 4), ("threads", None), ("gpu", "NVIDIA H100")]
)
def test_no_speed_is_claimed_across_machines(compared: Compared, second: Results, name: str, value: Any) -> None:
    second["environment"] |= {"cpu": "AMD EPYC 9B14", name: value}
    record = compared()
    assert {row.verdict for row in change_of(record, "pruned").latency} == {"no claim"}
    (line,) = (line for line in remark_lines(record) if "kind of machine" in line)
    assert line.startswith("B ran on another kind of machine than A (") and "no claim about latency" in line
    assert str(value) in line or value is None


def test_what_cannot_be_compared_is_said_of_two_runs(results: Results, second: Results) -> None:
    """By `compare` as by `gate`, which alone has a baseline."""
    second["environment"] |= {"cpu": "another"}
    second["data"] |= {"name": "photos", "test_sha256": "other"}
    sides = pair(*(RunRecord.model_validate(run) for run in (results, second)), "pruned")
    assert sides
    before, after = (of_network(side.variant) for side in sides)
    rows = [side.variant.inference.latency[0] for side in sides]
    assert isinstance(before, Predicted) and isinstance(after, Predicted)
    assert accuracy_change(sides, before, after) == Absent(
        "other test data: photos with 10 classes instead of cifar10-sample with 10 classes"
    )
    absent = latency_change(sides, *rows).measured
    assert isinstance(absent, Absent) and "another, 2 threads instead of AMD EPYC 9B14, 2 threads" in absent.reason
    faster = sides._replace(after=sides.before)
    threads = latency_change(faster, rows[0], rows[0].model_copy(update={"threads": 4})).measured
    assert threads == Absent("timed with 4 threads instead of 2")


def test_no_difference_has_no_sign(compared: Compared, results: Results, second: Results) -> None:
    second["variants"][3]["accuracy"] = results["variants"][3]["accuracy"]
    assert str(change_of(compared(), "pruned").top1.difference) == "0.0"


def test_no_accuracy_is_claimed_across_data_sets(compared: Compared, second: Results) -> None:
    second["data"] |= {"name": "photos", "test_sha256": "other"}
    record = compared()
    assert change_of(record, "pruned").top1.verdict == "no claim"
    assert not change_of(record, "pruned").top1.same_data
    assert "B used other data than A (photos, not cifar10-sample): no claim about accuracy." in remark_lines(record)
    assert change_lines(record) == ["No change of accuracy is shown."]
    (accuracy,) = (table for table in comparison_tables(record) if table.key == "accuracy")
    assert {row[4] for row in accuracy.rows if row[1] == "B" and row[0] != "new"} == {"other data"}
    second["data"] = {**second["data"], "name": "cifar10-sample", "classes": ["a", "b"]}
    assert not change_of(compared(), "pruned").top1.same_data


def test_renamed_data_set_with_the_same_images_is_the_same_data(compared: Compared, second: Results) -> None:
    second["data"]["name"] = "photos"
    record = compared()
    assert change_of(record, "pruned").top1.paired
    assert not any("other data" in line for line in remark_lines(record))


def test_same_run_twice_is_refused_and_a_copy_is_named(compared: Compared, tmp_path: Path) -> None:
    compared()
    with pytest.raises(UsageError, match="first is given twice"):
        compare([tmp_path / "first", tmp_path / "second", tmp_path / "second" / ".." / "first"])
    shutil.copytree(tmp_path / "first", tmp_path / "copy")
    record = compare([tmp_path / "first", tmp_path / "copy"])
    assert "B has exactly the results of A: it is the same run, or a copy of it." in remark_lines(record)
    assert comparison_page(record).count("No change of accuracy is shown.") == 1


def test_runs_are_verified_against_their_checksums(compared: Compared, tmp_path: Path) -> None:
    compared()
    folders = [tmp_path / name for name in ("first", "second")]
    assert sum("cannot verify its files" in t for t in remark_lines(compare(folders))) == 2
    (folders[1] / "report.md").write_text("report")
    for folder in folders:
        write_sums(folder)
    assert not any("changed" in line or "SHA256SUMS" in line for line in remark_lines(compare(folders)))
    (folders[1] / "report.md").write_text("another")
    record = compare(folders)
    assert f"B: {folders[1] / 'report.md'} has changed since it was written." in remark_lines(record)
    assert "report.md has changed since" in comparison_page(record)
    (folders[1] / "results.json").write_text((folders[0] / "results.json").read_text())
    with pytest.raises(
        UsageError, match=r"second/results\.json has changed since it was written; run the recipe again"
    ):
        compare(folders)


def test_unfinished_run_is_refused(compared: Compared, tmp_path: Path) -> None:
    compared()
    (tmp_path / "killed").mkdir()
    with pytest.raises(UsageError, match=r"killed is not a run: it has no results\.json"):
        compare([tmp_path / "first", tmp_path / "killed"])
    (tmp_path / "killed" / "log.jsonl").write_text("{}")
    with pytest.raises(UsageError, match=r"killed is a run that did not finish: .*; run the recipe again"):
        compare([tmp_path / "first", tmp_path / "killed"])


def test_chart_has_a_marker_per_run_and_joins_variants_that_moved(compared: Compared, second: Results) -> None:
    record = compared()
    svg = comparison_svg(record, ["A", "B"])
    assert svg is not None
    words = texts(svg)
    assert {"A: 2026-11-23T13-20-04-9f2c", "B: second"} <= set(words) and "MACs per image (log scale)" in words
    names = [variant.id for variant in record.variants]
    assert sorted(word for word in words if word in names) == sorted(names), "each variant is named once"
    chart = comparison_chart(record, ["A", "B"])
    assert len(chart.marks) == len(names) + 1, "what has not moved is drawn once"
    assert [(chart.marks[a].name, chart.marks[b].style, line) for a, b, line in chart.joined] == [
        ("pruned", "B: second", "-")
    ]
    assert len({style["marker"] for style in chart.styles.values()}) == 2
    second["variants"][3]["accuracy"] = accuracy(2030, N).model_dump(mode="json")
    assert [line for _, _, line in comparison_chart(compared(), ["A", "B"]).joined] == [":"], "nothing is claimed of it"
    bare = record.model_copy(update={"variants": ()})
    assert comparison_svg(bare, ["A", "B"]) is None and "<svg" not in comparison_page(bare)


def figures_of(comparison: Comparison, id: str) -> Figures:
    (variant,) = (variant for variant in comparison.variants if variant.id == id)
    figures = variant.runs[0]
    assert figures is not None
    return figures


def texts(svg: str) -> list[str]:
    found = ElementTree.fromstring(svg).iter()
    return ["".join(element.itertext()).strip() for element in found if element.tag.endswith("text")]


def test_variant_of_one_run_is_named(compared: Compared) -> None:
    record = compared()
    (new,) = (variant for variant in record.variants if variant.id == "new")
    assert new.runs[0] is None and new.changes == (None, None)
    (accuracy,) = (table for table in comparison_tables(record) if table.key == "accuracy")
    assert [row[0] for row in accuracy.rows].count("new") == 1
    assert change_lines(record) == [
        "pruned: top-1 of B is 8.0 points less (7.0 to 9.1) than A's; paired, 2,500 images."
    ]
    assert remark_lines(record)[-1] == "new is in B only."


def test_hostile_names_are_escaped(compared: Compared, second: Results) -> None:
    second["variants"][3]["id"] = "<script>alert(1)</script>"
    second["recipe"]["resolved"]["stages"][2]["</td><script>"] = "<img src=x>"
    html = comparison_page(compared())
    assert html.count("<script") == 1 and "<img" not in html and "&lt;script&gt;alert(1)" in html


@pytest.mark.parametrize(
    "text", [None, "{", "[1]", "{}", '{"variants": [3]}', '{"variants": [{"id": "teacher", "accuracy": 3}]}']
)
def test_damaged_results_are_refused_in_one_line(compared: Compared, tmp_path: Path, text: str | None) -> None:
    compared()
    other = tmp_path / "other"
    other.mkdir()
    if text:
        (other / "results.json").write_text(text)
    with pytest.raises(UsageError, match="other") as failed:
        compare([tmp_path / "first", other])
    assert "\n" not in str(failed.value)


def test_results_that_are_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "results.json").mkdir()
    with pytest.raises(UsageError, match=r"is not a run: .*results\.json cannot be read \(Is a directory\)"):
        read_run(tmp_path)


def test_single_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="two runs or more"):
        compare([tmp_path])


def test_compare_prints_tables_and_writes_the_page(
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
    assert "new is in B only." in shown
    for path, says in ((tmp_path, "is a folder; name a file in it"), (tmp_path / "no" / "x.html", "no does not exist")):
        with pytest.raises(UsageError, match=says):
            write_comparison(compared(), path)
    assert "8.0 points less" in page.read_text() and "<svg" in page.read_text()
