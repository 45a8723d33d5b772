"""Sections of the page besides tables of costs: changes by class, images, lineage, and how to reproduce the run."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from results_factory import example_record

from compress.report import formats as f
from compress.report import page, render_html, render_markdown
from compress.report.classes import changes_sections, verdict
from compress.report.content import build_report
from compress.report.disagreements import disagreements_section
from compress.report.lineage import lineage
from compress.report.reproduce import reproducibility, store_use, versions
from compress.report.sections import sections
from compress.report.tooltips import TOOLTIPS, tooltip
from compress.report.variants import VARIANTS
from compress.results import RunRecord

Results = dict[str, Any]
typed = RunRecord.model_validate
NEW = ("class_changes", "quality_changes", "disagreements")


def test_results_of_earlier_versions_still_give_a_report(results: Results) -> None:
    for name in NEW:
        del results[name]
    for variant in results["variants"]:
        del variant["accuracy"]["right"]
    for name in ("made", "from_store"):
        del results["run"][name]
    html = render_html(typed(results))
    assert "Confusion changes" not in html and "disagree" not in html
    assert "Whether the store was used was not recorded." in html


def test_sections_are_in_order_and_have_unique_ids(results: Results) -> None:
    found = sections(build_report(typed(results)))
    titles = [section.title for section in found]
    order = ("Variants", "Worth against distilled", "Worth against teacher", "Latency", "Training ledger")
    order += ("Confusion changes", "Lineage", "What was not measured", "How to reproduce", "Settings")
    assert [title for title in titles if title in order] == list(order)
    assert len({section.key for section in found}) == len(found)


def test_every_column_of_figures_has_a_tooltip(results: Results) -> None:
    report = build_report(typed(results))
    tables = [report.variants, report.artifacts, report.latency, *report.details]
    tables += [section.table for section in report.savings] + [section.classes for section in report.changes]
    bare = [
        (table.key, heading)
        for table in tables
        for heading, figure in zip(table.headings, table.figures, strict=True)
        if figure and not tooltip(table.key, heading)
    ]
    assert not bare


def headings() -> set[str]:
    """Headings of all tables, from the source of the report; of those that are computed, what is constant."""
    found = set()
    for path in Path(page.__file__).parent.glob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func).split("[")[0] == "Column":
                parts = call.args[0].values if isinstance(call.args[0], ast.JoinedStr) else call.args[:1]
                found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in parts))
    return found


def test_every_tooltip_is_of_a_column() -> None:
    known = [f"{table}{heading}" for heading in headings() for table in ("", "published/", "worth/")]
    unused = [pattern for pattern, _ in TOOLTIPS if not any(re.fullmatch(pattern, name) for name in known)]
    assert not unused


@pytest.mark.parametrize("heading", ["speedup (95% interval)", "share of the dense latency (95% interval)"])
def test_intervals_of_timings_are_students(heading: str) -> None:
    assert "Student's t over processes" in tooltip("latency", heading)


def test_changes_are_those_of_the_headline(results: Results) -> None:
    found = changes_sections(typed(results), "distilled", "int8")
    assert [section.classes.title for section in found] == [
        "int8 against distilled, by class",
        "int8 against teacher, by class",
    ]
    assert changes_sections(typed(results | {"class_changes": []}), None, None) == ()


def test_verdict_on_a_class_counts_all_classes_as_tests(results: Results) -> None:
    """The interval of one class among many excludes 0 by chance now and then."""
    change = typed(results).class_changes[0].classes[0]
    found = [
        verdict(change.model_copy(update={"difference": loss, "difference_ci95": (0.01, 0.3), "p_adjusted": p}))
        for loss, p in ((0.1, 0.05), (-0.1, 0.01), (0.1, 0.06), (0.1, None))
    ]
    assert found == ["less accurate", "more accurate", "no claim", "no claim"]


def test_only_pictures_are_shown(results: Results) -> None:
    wrong = ("javascript:alert(1)", "data:image/svg+xml;base64,PHN2Zz4=", 'data:image/webp;base64," onerror="x', "")
    for example, picture in zip(results["disagreements"]["examples"], wrong, strict=False):
        example["thumbnail"] = picture
    record = typed(results)
    assert record.disagreements is not None
    found = disagreements_section(record.disagreements)
    assert [example.picture is None for example in found.examples] == [True] * 4 + [False] * 8
    assert render_html(record).count("<img") == 8


def test_lineage_is_a_tree_and_a_cycle_becomes_roots(results: Results) -> None:
    teacher, scratch, distilled = lineage(typed(results))
    assert (teacher.name, scratch.name, distilled.name) == ("teacher", "scratch", "distilled")
    (pruned,) = distilled.children
    assert pruned.made_by == "pruned, in this run" and distilled.made_by == "distilled, from the store"
    assert pruned.children[0].runtimes == "onnxruntime, openvino"
    results["variants"][2]["parent"] = "int8"
    assert [node.name for node in lineage(typed(results))] == ["teacher", "scratch", "distilled", "pruned", "int8"]


def test_provenance_names_versions_and_use_of_the_store(results: Results) -> None:
    record = typed(results)
    assert store_use(record) == "Taken from the store: teacher, scratch, distilled. Made in this run: pruned, int8."
    assert versions(record).startswith("compress 0.1.0, Python 3.11.7, torch 2.15.0, timm")
    results["run"]["made"] = []
    assert store_use(typed(results)).startswith("All stages were taken from the store")
    results["run"] |= {"made": ["teacher"], "from_store": []}
    assert store_use(typed(results)).startswith("Nothing was taken from the store")


def test_reproducibility_depends_on_the_training_device(results: Results) -> None:
    assert reproducibility(typed(results)).startswith("On the same kind of processor")
    results["environment"]["gpu"] = "NVIDIA H100"
    record = typed(results)
    assert reproducibility(record).startswith("Trained on a GPU")
    start = reproducibility(record)[:60]
    assert start in render_markdown(record) and start in render_html(record)
    results["recipe"]["resolved"]["trainer"] = {"accelerator": "cpu"}
    assert reproducibility(typed(results)).startswith("On the same kind of processor")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("37 M", 37e6), ("4.73 GMACs", 4.73e9), ("12.7 ms", 0.0127), ("1,234 ms", 1.234), ("3.4 min", 204)),
        *(("45 s", 45), ("94.0% (93.0 to 94.9%)", 94), ("−1.20", -1.2), ("+0.5", 0.5), ("3.1 mJ", 0.0031)),
        *(("12/20", 12), ("5.39× (1.1 to 2.0)", 5.39), ("at least 3.2×", 3.2), ("0.5 points more (0.1 to 1)", -0.5)),
        *(("1.2 points less", 1.2), ("3.1e-06", 3.1e-6), ("104 k queries", 104e3), ("never: not cheaper", None)),
        *(("not measured", None), ("", None), ("18 µJ", 18e-6), ("14.3 MB", 14.3e6), ("12 B", 12)),
    ],
)
def test_cells_sort_by_their_figure(text: str, value: float | None) -> None:
    assert f.sort_value(text) == (value if value is None else pytest.approx(value))


def test_bit_operations_that_nothing_executes_are_marked() -> None:
    (column,) = (column for column in VARIANTS if column.heading == "bit operations")
    cells = {
        variant.id: column.write(variant.model_copy(update={"artifacts": ()})) for variant in example_record().variants
    }
    assert {name for name, cell in cells.items() if cell.endswith("(simulated)")} == {"int8"}
    assert not any("simulated" in column.write(variant) for variant in example_record().variants)
