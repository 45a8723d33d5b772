"""The parts of the page that are not tables of costs: answers by class, images, lineage, and how to do it again."""

from __future__ import annotations

from typing import Any

import pytest

from compress.report import formats as f
from compress.report import page, render_html
from compress.report.classes import chosen_changes, classes_table, verdict
from compress.report.disagreements import disagreements
from compress.report.lineage import lineage
from compress.report.page import render_markdown
from compress.report.reproduce import same_again, store_use, versions
from compress.report.sections import sections
from compress.report.tooltips import about

Results = dict[str, Any]
NEW = ("class_changes", "disagreements")


def test_results_of_before_still_give_a_report(results: Results) -> None:
    for name in NEW:
        del results[name]
    for variant in results["variants"]:
        del variant["accuracy"]["right"]
    for name in ("made", "from_store"):
        del results["run"][name]
    html = render_html(results)
    assert "Confusion changes" not in html and "disagree" not in html
    assert "Whether the store was used was not recorded." in html


def test_every_section_has_its_place_and_a_link(results: Results) -> None:
    context = page._context(results)
    found = sections(results, context)
    titles = [section.title for section in found]
    order = ("Variants", "Worth against distilled", "Worth against teacher", "Latency", "Training ledger")
    order += ("Confusion changes", "Lineage", "What was not measured", "How to reproduce", "Settings")
    assert [title for title in titles if title in order] == list(order)
    assert len({section.key for section in found}) == len(found)


def test_every_figure_says_what_it_is(results: Results) -> None:
    context = page._context(results)
    tables = [*(context[name] for name in ("variants", "artifacts", "latency")), *context["worths"]]
    tables += [table for table, _ in context["parts"]] + [classes_table(entry) for entry in results["class_changes"]]
    bare = [
        (table.key, heading)
        for table in tables
        for heading, figure in zip(table.headings, table.figures, strict=True)
        if figure and not about(table.key, heading)
    ]
    assert not bare


def test_the_changes_are_those_of_the_answer(results: Results) -> None:
    found = chosen_changes(results, "distilled", "int8")
    assert [(entry["reference"], entry["variant"]) for entry in found] == [("distilled", "int8"), ("teacher", "int8")]
    assert chosen_changes({}, None, None) == []
    assert [verdict(ends) for ends in ([0.01, 0.1], [-0.1, -0.01], [-0.1, 0.1], None)] == [
        "less accurate",
        "more accurate",
        "no claim",
        "not measured",
    ]


def test_only_pictures_are_shown(results: Results) -> None:
    wrong = ("javascript:alert(1)", "data:image/svg+xml;base64,PHN2Zz4=", 'data:image/webp;base64," onerror="x', 3)
    for example, picture in zip(results["disagreements"]["examples"], wrong, strict=False):
        example["thumbnail"] = picture
    found = disagreements(results)
    assert found is not None
    assert [example.picture is None for example in found.examples] == [True] * 4 + [False] * 8
    assert render_html(results).count("<img") == 8


def test_lineage_and_a_circle(results: Results) -> None:
    teacher, scratch, distilled = lineage(results)
    assert (teacher.name, scratch.name, distilled.name) == ("teacher", "scratch", "distilled")
    (pruned,) = distilled.children
    assert pruned.how == "pruned, in this run" and distilled.how == "distilled, from the store"
    assert pruned.children[0].files == "onnxruntime, openvino"
    results["variants"][2]["parent"] = "int8"
    assert [node.name for node in lineage(results)] == ["teacher", "scratch", "distilled", "pruned", "int8"]


def test_how_to_do_it_again(results: Results) -> None:
    assert store_use(results) == "Taken from the store: teacher, scratch, distilled. Made in this run: pruned, int8."
    assert versions(results).startswith("compress 0.1.0, Python 3.11.7, torch 2.15.0, timm")
    results["run"]["made"] = []
    assert store_use(results).startswith("All stages were taken from the store")
    results["run"] |= {"made": ["teacher"], "from_store": []}
    assert store_use(results).startswith("Nothing was taken from the store")


def test_what_is_the_same_again_depends_on_where_it_was_trained(results):
    assert same_again(results).startswith("On a processor of this kind")
    results["environment"]["gpu"] = "NVIDIA H100"
    assert same_again(results).startswith("Trained on a GPU")
    assert same_again(results)[:60] in render_markdown(results) and same_again(results)[:60] in render_html(results)
    results["recipe"]["resolved"]["trainer"] = {"accelerator": "cpu"}
    assert same_again(results).startswith("On a processor of this kind")


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
def test_what_is_written_can_be_sorted(text: str, value: float | None) -> None:
    assert f.sort_value(text) == (value if value is None else pytest.approx(value))
