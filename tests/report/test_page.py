"""The pages of a run: headline, figures, what is missing, and names that are attacks."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from results_factory import derive
from rich.console import Console

from compress.report import page, render_html, render_markdown, terminal_table, write_report
from compress.report.content import build_report
from compress.report.not_measured import not_measured
from compress.report.plots import accuracy_cost_svg
from compress.results import RunRecord

Results = dict[str, Any]
typed = RunRecord.model_validate
OURS = (page.TEMPLATES / "html" / "sort.js").read_text()
HOSTILE = "<script>alert(1)</script>|`$x_1$`&\"'{{7*7}}\n# [bold]"


class Page(HTMLParser):
    """Tags, attributes and text of a page, and whether its tags close in order."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data


def renamed(value: Any, old: str, new: str) -> Any:
    """The results with one name replaced everywhere."""
    if isinstance(value, dict):
        return {key: renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, old, new) for item in value]
    return new if value == old else value


def unknown(value: Any) -> Any:
    """The record with every figure that may be unknown unknown."""
    if isinstance(value, tuple):
        return tuple(unknown(item) for item in value)
    if not isinstance(value, BaseModel):
        return value
    fields = type(value).model_fields.items()
    nullable = {name for name, field in fields if type(None) in get_args(field.annotation)}
    return value.model_copy(
        update={name: None if name in nullable else unknown(getattr(value, name)) for name, _ in fields}
    )


def test_run_without_comparison_has_no_savings(results: Results) -> None:
    results |= {"efficiency": [], "months": []}
    html = render_html(derive(results))
    assert "Accuracy against MACs" not in html and "Lifetime" not in html and "The compute gap" not in html


def test_html_is_well_formed_and_needs_no_network(results: Results) -> None:
    html = render_html(typed(results))
    found = Page(html)
    assert not found.open
    assert not {"link", "iframe", "object", "base", "form"} & set(found.tags)
    addresses = [v for k, v in found.attributes if k in ("src", "href", "xlink:href") and v and not v.startswith("#")]
    assert addresses and all(address.startswith("data:image/webp;base64,") for address in addresses)
    assert "@import" not in html
    others = 9  # months, reliability, latency, waterfall, curves, life against `distilled`, gap, classes against both
    assert html.count("<svg") == len(results["efficiency"]) + others


def test_pages_have_no_field_per_test_image(results: Results, tmp_path: Path) -> None:
    """ImageNet's labels would be 150,000 characters of each page."""
    write_report(typed(results), tmp_path)
    lengths = {name: (tmp_path / name).stat().st_size for name in page.PAGES}
    results["data"]["test_labels"] = "0" * 150_000
    write_report(typed(results), tmp_path)
    assert {name: (tmp_path / name).stat().st_size for name in page.PAGES} == lengths
    assert lengths["report.md"] < 60_000


def test_months_of_gap_are_given_for_training_only(results: Results) -> None:
    text = Page(render_html(typed(results))).text
    assert "FLOP" not in text
    before, _, training = text.partition("Training efficiency")
    assert "months of gap" not in before and "months of gap" in training


def test_page_explains_why_an_inference_saving_has_no_months_of_gap(results: Results) -> None:
    results["training_efficiency"] = []
    text = Page(render_html(typed(results))).text
    _, _, gap = text.partition("The compute gap")
    assert "A saving in inference has no months of gap: it does not pay for training compute." in gap
    assert "of gap" not in gap.partition("What was not measured")[0].replace("months of gap", "", 2)
    rows = [line for line in render_markdown(typed(results)).splitlines() if line.startswith("| inference | ")]
    assert len(rows) == 3 and all(line.endswith("| none: inference |") for line in rows)


def test_ledger_names_teacher_training_and_interruptions(results: Results) -> None:
    distilled = next(variant for variant in results["variants"] if variant["id"] == "distilled")
    distilled["training"]["teacher_pretraining"] = {"macs": 7.5e20, "source": "a paper"}
    distilled["training"]["interrupted"] = 2_000_000_000_000
    text = Page(render_html(typed(results))).text
    assert "The teacher's own training is not included: it took 750 EMACs (a paper)." in text
    assert "Lost to interruptions and not included: at least distilled 2 TMACs." in text


def test_ledger_names_the_training_of_published_weights_and_the_number_format(results: Results) -> None:
    distilled = next(variant for variant in results["variants"] if variant["id"] == "distilled")
    distilled["training"]["start_pretraining"] = {"macs": 6.3e17, "source": "a card"}
    distilled["training"]["precision"] = "bf16-mixed, contiguous"
    text = Page(render_html(typed(results))).text
    assert "Nor is that of the weights that networks start from: distilled 630 PMACs (a card)." in text
    assert "Number format and layout of the weights: bf16-mixed, contiguous (distilled)." in text
    distilled["training"]["start_pretraining"] = {"macs": None, "source": None}
    assert "networks start from: distilled not stated." in Page(render_html(typed(results))).text


def test_markdown_has_every_figure_of_a_variant(results: Results) -> None:
    text = render_markdown(typed(results))
    row = next(line for line in text.splitlines() if line.startswith("| int8 | quantize"))
    for figure in (
        "81.7% (80.2 to 83.2%)",
        "73.9 M",
        "4.73 G",
        "4.31 M",
        "4.49 MB",
        "20/20",
        "90.7 T",
        "12.4%",
        "412 MB",
    ):
        assert f"| {figure} |" in row
    assert (
        "| int8 | granted | openvino | 0.7 points less (0.0 to 1.4) | 1.8 points | +3.9% | +1.01 | +5.01 | +2.39 |"
        in text
    )
    assert "fp32 against fp32 in openvino (pruned); openvino at batch 16, int8 against fp32 in openvino (int8)." in text


def test_unmeasured_figures_are_listed(results: Results) -> None:
    unknown = {"macs": None, "ratio": None, "doublings": None}
    results["training_efficiency"][0]["with_teacher_pretraining"] = unknown
    lines = not_measured(typed(results))
    assert "Energy of inference of any variant." in lines
    assert "Energy of training of any variant." in lines
    assert any(line.startswith("Compute of earlier training") for line in lines)
    assert not any(line.startswith("Latency") for line in lines)
    text = Page(render_html(typed(results))).text
    assert all(line in text for line in lines)


@pytest.mark.parametrize("old", ["int8", "distilled", "quickstart", "openvino", "airplane"])
def test_hostile_names_are_escaped(results: Results, old: str) -> None:
    hostile = typed(renamed(results, old, HOSTILE))
    found = Page(render_html(hostile))
    assert not found.open
    assert found.scripts == [OURS] and found.tags.count("script") == 1
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "alert(1)" in found.text
    assert "49" not in {part.strip("|&`$") for part in found.text.split()}
    text = render_markdown(hostile).partition("## Settings")[0]
    assert "<script" not in text.replace("\\<", "")
    headings = [line for line in text.splitlines() if line.startswith("# ")]
    assert len(headings) == 1
    counts = [line.replace("\\|", "").count("|") for line in text.splitlines() if line.startswith("|")]
    assert set(counts) <= {counts[0], *(len(t) + 1 for t in _headings(results))}


def _headings(results: Results) -> list[tuple[str, ...]]:
    report = build_report(typed(results))
    tables = [report.variants, report.artifacts, report.latency, *report.details]
    tables += [section.table for section in report.savings] + [section.classes for section in report.changes]
    return [table.headings for table in tables]


def test_settings_stay_inside_their_fenced_block(results: Results) -> None:
    results["recipe"]["resolved"] = {"name": "a\n```\n# out\n````\n"}
    block = render_markdown(typed(results)).partition("## Settings\n\n")[2]
    assert block.startswith("`````yaml\n")
    assert block.rstrip().endswith("\n`````")


def test_everything_unknown_still_gives_a_page(results: Results) -> None:
    empty = unknown(typed(results))
    for text in (Page(render_html(empty)).text, render_markdown(empty)):
        assert "not measured" in text
    bare = typed(results | {"variants": [], "efficiency": [], "training_efficiency": [], "class_changes": []})
    assert not Page(render_html(bare)).open
    assert render_markdown(bare)


@pytest.mark.charts
def test_chart_is_well_formed_deterministic_and_uses_css_colours(results: Results) -> None:
    hostile = typed(renamed(results, "int8", HOSTILE))
    svg = accuracy_cost_svg(hostile, hostile.efficiency[0])
    assert svg is not None
    root = ElementTree.fromstring(svg)
    texts = ["".join(element.itertext()) for element in root.iter() if element.tag.endswith("text")]
    assert {"granted", "not granted", "reference", "+1", "doublings against distilled"} <= set(texts)
    assert any(text.startswith("<script>") for text in texts)
    assert "var(--ink)" in svg
    assert svg == accuracy_cost_svg(hostile, hostile.efficiency[0])


def test_no_chart_without_costs_to_compare(results: Results) -> None:
    for variant in results["variants"]:
        variant["inference"]["macs"] = 0
    record = typed(results)
    assert accuracy_cost_svg(record, record.efficiency[1]) is None


def test_rendering_does_not_change_the_record(results: Results) -> None:
    record = typed(results)
    before = record.model_copy(deep=True)
    render_html(record)
    render_markdown(record)
    assert record == before


def test_write_report_replaces_files_atomically(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(typed(results), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(page.PAGES)
    before = (tmp_path / "report.md").read_text()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    results["command"] = "another"
    with pytest.raises(OSError, match="No space"):
        write_report(typed(results), tmp_path)
    assert (tmp_path / "report.md").read_text() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_terminal_table_fits_80_columns_and_ignores_markup(results: Results) -> None:
    console = Console(width=80, record=True, file=StringIO())
    console.print(terminal_table(typed(renamed(results, "pruned", "[red]p[/]"))))
    text = console.export_text()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "[red]p" in text
    assert "81.7% (80.2–83.2%)" in text
    assert "not granted" in text and "granted" in text


@pytest.mark.parametrize(
    ("loss", "ends", "words"),
    [
        (0.029, (-0.003, 0.06), "not granted: 2.9 less"),
        (-0.002, (-0.015, 0.011), "not granted: 0.2 more, up to 1.1 less"),
        (0.0, (-0.02, 0.02), "not granted: no difference, up to 2.0 less"),
        (-0.002, None, "not granted: 0.2 more"),
        (None, None, "not granted"),
    ],
)
def test_the_terminal_says_in_words_what_is_not_granted(
    results: Results, loss: float | None, ends: tuple[float, float] | None, words: str
) -> None:
    reference = results["efficiency"][0]["reference"]
    results["efficiency"] = results["efficiency"][:1]
    row = results["efficiency"][0]["variants"][0]
    row |= {"granted": False, "accuracy_difference": loss, "difference_ci95": ends}
    table = terminal_table(typed(results))
    cells = [str(cell) for cell in table.columns[-1].cells]
    assert words in cells and str(table.columns[-1].header) == f"against {reference}"


def test_a_table_without_rows_says_why(results: Results) -> None:
    results["training_efficiency"] = []
    for variant in results["variants"]:
        variant["artifacts"] = []
    text = render_markdown(typed(results))
    assert "None." not in text
    assert "Not compared: this takes a variant that was trained here" in text
    assert "No files were exported; add an `export` stage to the recipe." in text.replace("\\", "")
    assert "No files were exported; add an `export` stage" in Page(render_html(typed(results))).text


def test_uncounted_operators_are_named_under_the_variants(results: Results) -> None:
    assert "not counted" not in render_markdown(typed(results))
    for variant in results["variants"]:
        variant["inference"]["uncounted_operators"] = []
    assert "not counted" not in render_markdown(typed(results))
    results["variants"][1]["inference"]["uncounted_operators"] = ["aten.grid_sampler_2d", "torchvision.deform_conv2d"]
    (line,) = [line for line in render_markdown(typed(results)).splitlines() if "not counted" in line]
    name = results["variants"][1]["id"]
    assert f"Operators not counted in any MACs of {name}" in line
    assert "deform" in line and "grid" in line
    assert "deform_conv2d" in Page(render_html(typed(results))).text
