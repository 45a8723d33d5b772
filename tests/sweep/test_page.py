"""The page: figures and commands of all trials, charts, and names that could break it."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from browser import Browser
from report.test_browser import browser, charts_are_readable, written
from sweep.arithmetic import SPACE, Arithmetic, Bench

from compress.sweep.chart import _titles, parallel_svg, scatter_svg
from compress.sweep.output import MAX_REASONS, sweep_lines, trial_line, trials_table
from compress.sweep.page import sweep_page
from compress.sweep.records import Sweep, Trial
from compress.utils.errors import CompressError

__all__ = ["browser"]  # the fixture


def texts(svg: str | None) -> list[str]:
    assert svg
    root = ElementTree.fromstring(svg)
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_page_has_every_trial_with_its_command_and_report(bench: Bench) -> None:
    sweep = bench.sweep(tolerance=0.06)
    page = (bench.runs / "sweeps/tiny-space/sweep.html").read_text()
    assert page.count("<pre") == len(sweep.points) == page.count("report</a>")
    for point in sweep.points:
        assert point.command in page and f'href="../../{point.run}/report.html"' in page
        assert (bench.runs / "sweeps/tiny-space" / f"../../{point.run}").is_dir()
    answer = sweep_lines(sweep)[-1]
    assert answer.replace("'", "&#39;") in page and "Finding it took" in page
    assert page.count("<svg") == 3, "MACs, size and parallel coordinates"
    assert set(re.findall(r"https?://[^/\"]+", page)) <= {"http://www.w3.org", "https://matplotlib.org"}, (
        "nothing is loaded"
    )


def test_an_answer_that_is_refused_is_not_in_the_box_of_a_granted_one(bench: Bench) -> None:
    sweep = bench.sweep(tolerance=0.06)
    assert sweep.answer.trial is not None and 'class="answer granted"' in sweep_page(sweep)
    refused = tuple(row.model_copy(update={"granted": False}) for row in sweep.answer.tested)
    answer = sweep.answer.model_copy(update={"tested": refused})
    assert "answer granted" not in sweep_page(sweep.model_copy(update={"answer": answer}))


def test_further_reasons_of_failures_are_counted(bench: Bench) -> None:
    sweep = bench.sweep(trials=1)
    failed = tuple(
        sweep.points[0].model_copy(update={"number": n, "state": "failed", "reason": f"reason {n}", "dominance": None})
        for n in range(MAX_REASONS + 2)
    )
    lines = sweep_lines(sweep.model_copy(update={"points": failed}))
    assert sum("reason " in line and line.startswith("Failed") for line in lines) == MAX_REASONS
    assert "and 2 more reasons." in lines


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1400, "light")])
def test_charts_of_the_page_are_readable(
    browser: Browser, bench: Bench, tmp_path: Path, width: int, scheme: str
) -> None:
    page = written(tmp_path, sweep_page(bench.sweep(tolerance=0.06)))
    assert len(charts_are_readable(browser, page, width, scheme)) == 3


def test_long_choices_stay_apart_in_the_chart(bench: Bench) -> None:
    sweep = bench.sweep(tolerance=0.06)
    names = ("timm/mobilenetv4_conv_small.e2400", "timm/mobilenetv4_conv_small.e1200")
    points = tuple(
        point.model_copy(update={"settings": {**point.settings, "student": names[point.number % 2]}})
        for point in sweep.points
    )
    found = texts(parallel_svg(sweep.model_copy(update={"points": points})))
    assert len({text for text in found if text.startswith("tim")}) == 2


def test_runs_link_to_the_page(bench: Bench) -> None:
    from compress.report.page import render_html
    from compress.results.read import read_run

    sweep = bench.sweep(trials=1)
    run = bench.runs / str(sweep.points[0].run)
    assert '<a href="../../sweeps/tiny-space/sweep.html">' in render_html(read_run(run))
    assert (run / "../../sweeps/tiny-space/sweep.html").resolve().is_file()
    text = (run / "results.json").read_text()
    (run / "results.json").write_text(text.replace("../../sweeps/tiny-space/sweep.html", "javascript:alert(1)"))
    with pytest.raises(CompressError, match=r"run\.sweep"):
        read_run(run)


def test_charts_tell_the_front_from_what_it_dominates(bench: Bench) -> None:
    sweep = bench.sweep(tolerance=0.06)
    found = texts(scatter_svg(sweep, "macs"))
    assert {"answer", "front", "dominated, apparently", "dominated, shown"} <= set(found)
    front = [str(point.number) for point in sweep.points if point.dominance == "front"]
    assert set(front) <= set(found) and "top-1 on validation" in found
    assert scatter_svg(sweep, "latency.absent.1") is None
    found = texts(parallel_svg(sweep))
    assert {"lr", "target_macs", "variant", "validation", "macs", "pruned", "int8"} <= set(found)


def test_settings_that_end_alike_are_told_apart() -> None:
    names = ["stages.a.student", "stages.a.student.resolution", "stages.b.lr", "stages.c.lr", "variant"]
    assert list(_titles(names).values()) == ["student", "resolution", "b.lr", "c.lr", "variant"]


def test_charts_need_something_to_draw(bench: Bench) -> None:
    sweep = bench.sweep(trials=1)
    assert parallel_svg(sweep) is None and scatter_svg(sweep, "macs")
    assert "No trial has ended." in sweep_page(bench.sweep(trials=0, name="empty"))


def test_hostile_names_do_not_break_the_page(bench: Bench) -> None:
    text = SPACE.replace(
        "parameters:", "parameters:\n  description: ['<script>alert(1)</script>', \"\\u202e\", '</svg><b>', 'a']"
    )
    sweep = bench.sweep(text, trials=3)
    page = sweep_page(sweep)
    assert "<script>alert" not in page and "</svg><b>" not in page and "\u202e" not in page
    for svg in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(svg)


def test_failures_are_named_by_reason(bench: Bench) -> None:
    def fail(lr: float, target: float) -> None:
        if target == 0.4:
            raise CompressError("disk <full>")

    sweep = bench.sweep(trials=6, make=Arithmetic(fail=fail))
    assert "Failed: trials 2, 3: disk <full>." in sweep_lines(sweep)
    assert "disk &lt;full&gt;" in sweep_page(sweep)
    rows = [row for row in trials_table(sweep).rows if row[-1] == "failed"]
    assert len(rows) == 2 and rows[0][-2] == "not measured"


def test_lines_of_trials(bench: Bench) -> None:
    bench.sweep(trials=1)
    trial = Trial.model_validate(bench.trial(0))
    assert trial_line(trial, ["validation", "macs"]).startswith("trial 0: validation 75.6%, macs 200 k, in 0 s")
    stored = (bench.runs / "sweeps/tiny-space/sweep_results.json").read_text()
    assert Sweep.model_validate_json(stored).points[0].number == 0
