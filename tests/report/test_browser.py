"""The pages in a real browser: a quiet console, no overflow, tables that sort by keyboard, contrast AA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hostile_results import everywhere

pytest.importorskip("fcntl", reason="Chromium is driven through pipes")

from browser import Browser, chromium, started

import compress
from compress.report import render_html
from compress.report.comparison import Comparison
from compress.results import RunRecord

Results = dict[str, Any]
typed = RunRecord.model_validate
HOSTILE = "<script>document.title='run'</script><img src=x onerror=\"document.title='run'\">'\"><svg onload=alert(1)>"

# Of all text that is shown: the lowest contrast of its colour with what is behind it, by WCAG 2.2, with its words.
CONTRAST = """
(() => {
  const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => {
    const part = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = rgba(getComputedStyle(at).backgroundColor);
      if (found[3] === 255) return found;
    }
    return [255, 255, 255, 255];
  };
  document.querySelectorAll("details").forEach((folded) => (folded.open = true));
  let count = 0, worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const words = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
    if (!words || ["SCRIPT", "STYLE", "TITLE"].includes(element.nodeName.toUpperCase())) continue;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement ? style.fill : style.color;
    const pair = [light(rgba(drawn)), light(behind(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    count += 1;
    if (ratio < worst[0]) worst = [ratio, words.slice(0, 60)];
  }
  return [count, ...worst];
})()
"""
# Of every chart: the rectangles and sizes in pixels of its texts, which of them are labels of marks, its own rectangle,
# and that of the first axes.
CHARTS = """
[...document.querySelectorAll("svg")].map((svg) => {
  const rect = (element) => { const r = element.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  const texts = [...svg.querySelectorAll("text")].filter((text) => text.textContent.trim());
  return {
    about: svg.ariaLabel,
    texts: texts.map((text) => ({
      words: text.textContent.trim(), rect: rect(text), label: !!text.closest(".label"),
      size: parseFloat(getComputedStyle(text).fontSize) * scale,
    })),
    whole: rect(svg), frame: rect(svg.querySelector(".axes path")),
  };
})
"""
WIDTHS = "[document.documentElement.scrollWidth, window.innerWidth]"
# Cells whose text goes beyond them.
CUT = "[...document.querySelectorAll('th, td')].filter(c => c.scrollWidth > c.clientWidth + 1).map(c => c.innerText)"
COLUMN = "[...document.querySelectorAll('table')[0].tBodies[0].rows].map((row) => row.cells[4].innerText)"
HEADING = "document.querySelectorAll('table')[0].tHead.rows[0].cells[4]"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium here")
    with started(path, tmp_path_factory.mktemp("profile")) as running:
        yield running


def check(browser: Browser, page: Path, width: int, scheme: str) -> None:
    """Check what every page keeps at every width and in both colour schemes."""
    browser.open(page, width, scheme)
    assert browser.errors == []
    shown, window = browser.value(WIDTHS)
    assert shown <= window == width
    count, ratio, words = browser.value(CONTRAST)
    assert count > 50 and ratio >= 4.5, (ratio, words)
    paper = browser.value("getComputedStyle(document.body).backgroundColor")
    assert paper == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 23, 27)")
    shown, window = browser.value(WIDTHS)  # with everything unfolded
    assert shown <= window
    assert browser.value(CUT) == []


def charts_are_readable(browser: Browser, page: Path, width: int, scheme: str) -> list[dict[str, Any]]:
    """In all charts no text meets another or is cut off, all can be read, and labels of marks stay off the axes."""
    browser.open(page, width, scheme)
    browser.value("document.querySelectorAll('details').forEach((folded) => (folded.open = true))")
    charts: list[dict[str, Any]] = browser.value(CHARTS)
    for chart in charts:
        texts = chart["texts"]
        assert texts and min(text["size"] for text in texts) >= 11, chart["about"]
        for text in texts:
            inner = chart["frame"] if text["label"] else chart["whole"]
            assert within(text["rect"], inner), (chart["about"], text["words"], text["rect"], inner)
        meeting = [(a["words"], b["words"]) for a, b in combinations(texts, 2) if meet(a["rect"], b["rect"])]
        assert not meeting, (chart["about"], meeting)
    return charts


def within(rect: list[float], other: list[float], give: float = 1.0) -> bool:
    left, top, right, bottom = rect
    return other[0] - give <= left and other[1] - give <= top and right <= other[2] + give and bottom <= other[3] + give


def meet(one: list[float], two: list[float]) -> bool:
    """By more than half a pixel."""
    across, down = (min(one[k + 2], two[k + 2]) - max(one[k], two[k]) for k in (0, 1))
    return across > 0.5 and down > 0.5


def labels(charts: list[dict[str, Any]]) -> list[str]:
    """Those of the chart of accuracy against cost."""
    return [text["words"] for text in scatter(charts)["texts"] if text["label"]]


def scatter(charts: list[dict[str, Any]]) -> dict[str, Any]:
    return next(chart for chart in charts if chart["about"].startswith("Accuracy against"))


def sorts_by_keyboard(browser: Browser) -> None:
    """MACs of the variants: by Tab to the heading's button, Enter for ascending, the space bar for descending."""
    before = browser.value(COLUMN)
    browser.value("document.querySelectorAll('table')[0].tHead.rows[0].cells[3].querySelector('button').focus()")
    browser.press("Tab", 9)
    assert browser.value(f"{HEADING}.contains(document.activeElement)")
    figures = browser.value(COLUMN.replace(".innerText", ".dataset.value"))
    rising = [text for _, text in sorted(zip(map(float, figures), before, strict=True), key=lambda pair: pair[0])]
    assert rising != before
    browser.press("Enter", 13)
    assert browser.value(COLUMN) == rising
    assert browser.value(f"{HEADING}.ariaSort") == "ascending"
    browser.press("Space", 32)
    assert browser.value(COLUMN)[0] == rising[-1]
    assert browser.value(f"{HEADING}.ariaSort") == "descending"
    assert browser.value("document.querySelectorAll('table')[0].querySelectorAll('[aria-sort]').length") == 1


def written(folder: Path, html: str) -> Path:
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    return page


def test_the_report_on_a_phone_in_the_dark_and_a_hostile_one(
    browser: Browser, results: Results, tmp_path: Path
) -> None:
    check(browser, written(tmp_path, render_html(typed(results))), 400, "dark")
    assert browser.value("[...document.images].map((image) => image.naturalWidth)") == [32] * 12
    sorts_by_keyboard(browser)
    page = written(tmp_path, render_html(typed(everywhere(results, HOSTILE))))
    check(browser, page, 400, "light")
    assert browser.value("document.title").startswith("quickstart<script>")
    assert browser.value("[document.scripts.length, document.images.length]") == [1, 0]
    text = page.read_text().replace("</main>", "<script>document.title = 'run'</script></main>")
    browser.open(written(tmp_path, text))
    assert browser.value("document.title") != "run" and "Content Security Policy" in browser.errors[0]


PLACES = [(400, "light"), (400, "dark"), (1400, "light"), (1400, "dark")]


@pytest.mark.parametrize(("width", "scheme"), PLACES)
def test_charts_of_the_example(browser: Browser, results: Results, tmp_path: Path, width: int, scheme: str) -> None:
    page = written(tmp_path, render_html(typed(results)))
    charts = charts_are_readable(browser, page, width, scheme)
    assert len(charts) == 11 and set(labels(charts)) == {"teacher", "scratch", "distilled", "pruned", "int8"}


@pytest.mark.parametrize(("width", "scheme"), PLACES)
def test_ten_variants_of_one_cost_have_numbers_and_a_key(
    browser: Browser, crowded: Results, tmp_path: Path, width: int, scheme: str
) -> None:
    charts = charts_are_readable(browser, written(tmp_path, render_html(typed(crowded))), width, scheme)
    assert sorted(map(int, labels(charts))) == list(range(1, 12))
    names = [variant["id"] for variant in crowded["variants"]]
    assert {f"{number}  {name}" for number, name in enumerate(names, 1)} <= {
        t["words"] for t in scatter(charts)["texts"]
    }


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_the_chart_of_a_comparison(browser: Browser, comparison: str, tmp_path: Path, width: int, scheme: str) -> None:
    charts = charts_are_readable(browser, written(tmp_path, comparison), width, scheme)
    assert set(labels(charts)) == {"teacher", "scratch", "distilled", "pruned", "int8", "new"}


def test_in_a_notebook_of_any_theme(browser: Browser, results: Results, tmp_path: Path) -> None:
    run = compress.RunResults(tmp_path, RunRecord.model_validate(results))
    shown = run._repr_html_()
    assert "var(" not in shown and len(repr(run)) < 300
    page = written(tmp_path, f"<!doctype html><body style='background: #111; color: #eee; width: 40rem'>{shown}</body>")
    charts = charts_are_readable(browser, page, 1400, "dark")
    assert len(charts) == 2 and "less accurate than distilled" in browser.value("document.body.innerText")
    count, ratio, words = browser.value(CONTRAST)
    assert count > 30 and ratio >= 4.5, (ratio, words)
    strokes = browser.value("[...document.querySelectorAll('svg .axes path')].map((p) => getComputedStyle(p).stroke)")
    assert "rgb(17, 99, 41)" in strokes, "what is granted is green"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 400, 1400])
def test_the_report(browser: Browser, results: Results, tmp_path: Path, width: int, scheme: str) -> None:
    check(browser, written(tmp_path, render_html(typed(results))), width, scheme)


@pytest.mark.slow
def test_without_its_script(browser: Browser, results: Results, tmp_path: Path) -> None:
    html = render_html(typed(results))
    page = written(tmp_path, html[: html.index("<script>")] + "</body></html>")
    check(browser, page, 400, "light")
    assert browser.value("document.querySelectorAll('button').length") == 0


@pytest.mark.slow
def test_printed_it_is_light_and_unfolded(browser: Browser, results: Results, tmp_path: Path) -> None:
    browser.open(written(tmp_path, render_html(typed(results))), 1000, "dark")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
    assert browser.value("getComputedStyle(document.body).color") == "rgb(27, 31, 36)"
    assert browser.value("document.images[0].getBoundingClientRect().height") > 20
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.fixture
def comparison(compared: Callable[[], Comparison]) -> str:
    from compress.report.compare_page import comparison_page

    return comparison_page(compared())


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_the_comparison(browser: Browser, comparison: str, tmp_path: Path, width: int, scheme: str) -> None:
    check(browser, written(tmp_path, comparison), width, scheme)
