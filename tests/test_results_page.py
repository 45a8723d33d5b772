"""The page of results is what its script makes from kept results, and says what they say."""

from __future__ import annotations

import json
import math
import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
import yaml
from results_factory import N, example
from support import teacher_folder

import compress
from compress.cli import app
from compress.recipe import load_recipe
from compress.results.read import read_run
from compress.utils.errors import UsageError

CHECKOUT = Path(compress.__file__).parents[1]
KEPT = CHECKOUT / "recipes" / "results"
PAGE = CHECKOUT / "recipes" / "RESULTS.md"
Results = dict[str, Any]


@pytest.fixture(scope="module")
def script() -> Iterator[SimpleNamespace]:
    """What scripts/make_results defines."""
    sys.path.insert(0, str(CHECKOUT / "scripts"))
    try:
        yield SimpleNamespace(**runpy.run_path(str(CHECKOUT / "scripts" / "make_results")))
    finally:
        sys.path.remove(str(CHECKOUT / "scripts"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with published figures and one run, which has made-up results."""
    (tmp_path / "recipes" / "results").mkdir(parents=True)
    shutil.copy(KEPT / "published.yml", tmp_path / "recipes" / "results")
    keep_seed(tmp_path, 0, 2400)
    return tmp_path


def keep_seed(root: Path, seed: int, correct: int, **changes: Any) -> None:
    """Keep results of a seed: the accuracy of every file, and settings that differ."""
    results = example()
    results["run"]["id"] = f"seed-{seed}"
    results["recipe"]["resolved"] |= {"seed": seed, **changes}
    for variant in results["variants"]:
        variant["stage_key"] += "" if variant["id"] == "teacher" else f"-{seed}"
        variant["training"]["teacher_pretraining"] = {"macs": 1.5e17, "source": "made up"}
        variant["training"]["start_pretraining"] = {"macs": 0.5e17, "source": "made up"}
        for entry in (variant["accuracy"], *variant["artifacts"]):
            entry |= {"top1": correct / N, "ci95": [correct / N - 0.01, correct / N + 0.01]}
    folder = root / "recipes" / "results" / f"seed-{seed}"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(results))


def page_of(script: SimpleNamespace, root: Path, section: Results | None = None, *training: Results) -> str:
    """The page of one section."""
    section = {"key": "own", "title": "Own", "groups": [{"runs": ["seed-0"]}], **(section or {})}
    text = yaml.safe_dump({"sections": [section], "training": list(training)})
    (root / "recipes" / "results" / "page.yml").write_text(text)
    return script.page_files(root)[root / "recipes" / "RESULTS.md"]


def cells(text: str) -> list[list[str]]:
    """The cells of a page's tables, without headings and rules."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_committed_page_and_pictures_are_what_the_script_makes(script: SimpleNamespace) -> None:
    files = script.page_files(CHECKOUT)
    assert PAGE in files and KEPT / "macs.svg" in files
    assert [path.name for path, text in files.items() if path.read_text() != text] == [], "run scripts/make_results"


def kept_rows() -> Iterator[tuple[Results, list[str], Results]]:
    """Rows of one seed: their section, cells, and variant in results.json, read without our records."""
    for section in yaml.safe_load((KEPT / "page.yml").read_text())["sections"]:
        text = PAGE.read_text().split(f"## {section['title']}\n")[1].split("\n## ")[0]
        groups = dict(zip("abcdefghijklmnopqrstuvwxyz", section["groups"], strict=False))
        for row in cells(text)[1:]:
            runs = groups[row[-1] if len(groups) > 1 else "a"]["runs"]
            if len(runs) == 1:
                results = json.loads((KEPT / runs[0] / "results.json").read_text())
                yield section, row, next(v for v in results["variants"] if v["id"] == row[0].replace("\\", ""))


def test_every_row_has_the_figures_of_its_results() -> None:
    rows = list(kept_rows())
    assert rows
    for section, row, variant in rows:
        milliseconds, _, runtime = row[5].partition(", ")
        file = next((each for each in variant["artifacts"] if each["runtime"] == runtime), None)
        top1, (low, high) = (file or variant["accuracy"])["top1"], (file or variant["accuracy"])["ci95"]
        assert row[1] == f"{100 * top1:.1f}% ({100 * low:.1f} to {100 * high:.1f}%)"
        assert row[2] == f"{variant['accuracy']['n']:,}"
        assert number(row[3]) == pytest.approx(variant["inference"]["macs"], rel=0.005)
        assert number(row[4]) == pytest.approx(file["bytes"] if file else variant["inference"]["bytes"], rel=0.005)
        spent = variant["training"]["macs"]
        assert row[6] == "not counted" if not spent else number(row[6]) == pytest.approx(spent, rel=0.005)
        timed = {(each["runtime"], each["batch"]): each["p50_ms"] for each in variant["inference"]["latency"]}
        if milliseconds != "not measured":
            expected = timed[runtime, section.get("batch", 1)]
            assert float(milliseconds.removesuffix(" ms").replace(",", "")) == pytest.approx(expected, rel=0.005)


def number(text: str) -> float:
    """126 M, 14.5 MB."""
    value, _, unit = text.partition(" ")
    return float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}[unit.removesuffix("B")]


def test_commands_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = re.findall(r"`(compress-model [^`]+)`", PAGE.read_text())
    teacher_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    group = typer.main.get_command(app)
    assert commands
    for command in commands:
        verb, *rest = shlex.split(command)[1:]
        assert verb == "run", command
        context = group.make_context("compress-model", [verb, *rest])
        name, parser, arguments = group.resolve_command(context, [verb, *rest])  # type: ignore[attr-defined]
        given = parser.make_context(name, arguments, parent=context).params
        load_recipe(rest[0], [rest[at + 1] for at, word in enumerate(rest) if word == "--set"])
        assert rest[0] in map(str, given.values()), command


def test_nothing_names_paths_of_a_machine_and_all_is_small(script: SimpleNamespace) -> None:
    kept = [path for path in KEPT.rglob("*") if path.is_file()]
    for path in (*kept, PAGE):
        assert script.machine_paths(path.read_text()) == [], path
        assert path.stat().st_size < 100_000, path


def test_add_drops_details_and_refuses_paths(script: SimpleNamespace, tmp_path: Path) -> None:
    results = example()
    results["command"] = "compress-model run quickstart --runs /scratch/runs --set data.root=/scratch/cifar"
    run, target = tmp_path / "run", tmp_path / "kept"
    run.mkdir()
    (run / "results.json").write_text(json.dumps(results))
    with pytest.raises(UsageError, match="paths of this machine: /scratch/cifar; add --replace"):
        script.keep(run, target, {}, script.Origin())
    script.keep(run, target, {"/scratch/cifar": "DIR"}, script.Origin(commit="abc"))
    kept = read_run(target)
    assert kept.command == "compress-model run quickstart --set data.root=DIR"
    assert kept.variants[1].accuracy.right is None and not kept.variants[1].training.curve
    assert [variant.accuracy.top1 for variant in kept.variants] == [v["accuracy"]["top1"] for v in results["variants"]]
    assert (target / "origin.yml").read_text() == "commit: abc\n"


def test_seeds_are_one_row_with_an_interval_each(script: SimpleNamespace, root: Path) -> None:
    keep_seed(root, 1, 2410)
    keep_seed(root, 2, 2420)
    group = {"runs": ["seed-0", "seed-1", "seed-2"], "picture": {"int8": "ours"}}
    page = page_of(script, root, {"groups": [group], "reference": "distilled"})
    rows = {row[0]: row for row in cells(page)}
    mean, *each = rows["int8"][1].split("<br>")
    assert mean == "**96.4%**, 96.0% to 96.8%" and rows["int8"][7] == "3"
    assert each == ["96.0% (95.0 to 97.0%)", "96.4% (95.4 to 97.4%)", "96.8% (95.8 to 97.8%)"]
    assert rows["int8"][8].startswith("granted in 3 of 3: +1.01 in MACs")
    assert rows["teacher"][7] == "1", "the teacher is the same with every seed"


def test_runs_that_differ_in_more_than_seeds_are_refused(script: SimpleNamespace, root: Path) -> None:
    keep_seed(root, 1, 2400, allow=["overlap"])
    with pytest.raises(UsageError, match="seed-0 and seed-1 differ in more than seeds"):
        page_of(script, root, {"groups": [{"runs": ["seed-0", "seed-1"]}]})


def test_each_runtime_has_a_row_of_its_own_file(script: SimpleNamespace, root: Path) -> None:
    page = page_of(script, root, {"runtimes": ["openvino", "onnxruntime", "litert"], "batch": 16})
    assert [row[5].split(", ")[1] for row in cells(page) if row[0] == "int8"] == ["openvino", "onnxruntime"]


def test_files_of_one_runtime_in_two_precisions_are_not_mixed(script: SimpleNamespace, root: Path) -> None:
    path = root / "recipes" / "results" / "seed-0" / "results.json"
    results = json.loads(path.read_text())
    distilled = next(variant for variant in results["variants"] if variant["id"] == "distilled")
    file = next(file for file in distilled["artifacts"] if file["runtime"] == "openvino")
    row = next(row for row in distilled["inference"]["latency"] if (row["runtime"], row["batch"]) == ("openvino", 16))
    half = {"precision": "fp16", "bytes": 22_400_000, "path": "half.xml"}
    distilled["artifacts"].append({**file, **half})
    distilled["inference"]["latency"].append({**row, "precision": "fp16", "p50_ms": 1.25})
    path.write_text(json.dumps(results))
    page = page_of(script, root, {"runtimes": ["openvino", "openvino fp16"], "batch": 16})
    whole, halved = ([row[4], row[5]] for row in cells(page) if row[0] == "distilled")
    assert halved == ["22.4 MB", "1.25 ms, openvino fp16"]
    assert whole == ["44.8 MB", whole[1]] and whole[1].endswith(" ms, openvino") and not whole[1].startswith("1.25")


def test_doublings_in_time_are_of_the_batch_of_the_section(script: SimpleNamespace, root: Path) -> None:
    path = root / "recipes" / "results" / "seed-0" / "results.json"
    results = json.loads(path.read_text())
    timed = {v["id"]: v["inference"]["latency"] for v in results["variants"]}
    own = next(row["p50_ms"] for row in timed["int8"] if (row["runtime"], row["batch"]) == ("openvino", 1))
    for row in timed["distilled"]:
        row |= {"rounds_ms": [], "p50_ms": row["p50_ms"] * (1.0 if row["batch"] == 16 else 0.5)}
    path.write_text(json.dumps(results))
    fastest = min(row["p50_ms"] for row in timed["distilled"] if row["batch"] == 1)

    def in_time(batch: int) -> str:
        page = page_of(script, root, {"batch": batch, "runtimes": ["openvino"], "reference": "distilled"})
        return next(row[-1] for row in cells(page) if row[0] == "int8")

    saved = next(each for each in results["efficiency"] if each["reference"] == "distilled")["variants"]
    granted = next(variant for variant in saved if variant["id"] == "int8")
    assert in_time(16).endswith(f", {granted['doublings']['latency']:+.2f} in time")
    assert in_time(1).endswith(f", {math.log2(fastest / own):+.2f} in time") and in_time(1) != in_time(16)
    for rows in timed.values():
        rows[:] = [row for row in rows if row["batch"] == 16]
    path.write_text(json.dumps(results))
    assert in_time(1).endswith(f"{in_time(16).rpartition(', ')[2]} at batch 16")


def test_a_granted_file_in_half_precision_is_named_where_the_row_has_another(
    script: SimpleNamespace, root: Path
) -> None:
    path = root / "recipes" / "results" / "seed-0" / "results.json"
    results = json.loads(path.read_text())
    for each in results["efficiency"]:
        for variant in each["variants"]:
            variant["file_precision"] = "fp16"
    path.write_text(json.dumps(results))
    page = page_of(script, root, {"batch": 16, "runtimes": ["openvino"], "reference": "distilled"})
    row = next(row for row in cells(page) if row[0] == "int8")
    assert row[-1].startswith("by its file for openvino fp16: granted"), row[-1]


def trained(page: str) -> list[list[str]]:
    """The rows of training compute."""
    return cells(page.split("## Training compute")[1].split("## Published")[0])[1:]


def test_training_compute_is_compared_in_flop(script: SimpleNamespace, root: Path) -> None:
    keep_seed(root, 1, 2440)  # 97.6%, 96.6 to 98.6%
    page = page_of(script, root, None, {"runs": ["seed-1"], "variant": "distilled", "target": 0.96})
    row = next(row for row in trained(page) if row[4].startswith("standard ResNet-18"))
    assert row[0] == "96%"
    assert row[3:5] == ["145 TFLOP", "standard ResNet-18: 32.3 PFLOP to 96%"]  # 2 x 72.28 T MACs
    assert row[5:] == ["+7.80", "−3.63"]  # log2(32.3e15 / 144.56e12); with 2 x 2e17 of teacher and start


def test_target_that_only_the_mean_reaches_is_marked(script: SimpleNamespace, root: Path) -> None:
    page = page_of(script, root, None, {"runs": ["seed-0"], "variant": "distilled", "target": 0.96})  # 95.0 to 97.0%
    row = next(row for row in trained(page) if row[4].startswith("standard ResNet-18"))
    assert row[5:] == ["+7.80, 96% not shown: the interval's lower end is 95.0%", "−3.63"]


def test_training_is_compared_with_published_ones_of_its_target_alone(script: SimpleNamespace, root: Path) -> None:
    page = page_of(script, root, None, {"runs": ["seed-0"], "variant": "distilled", "target": 0.94})
    assert [row[4].split(":")[0] for row in trained(page)] == ["airbench94_muon"]
    with pytest.raises(UsageError, match=r"no training in published\.yml has the target 95%"):
        page_of(script, root, None, {"runs": ["seed-0"], "variant": "distilled", "target": 0.95})


def test_training_that_misses_its_target_is_refused(script: SimpleNamespace, root: Path) -> None:
    with pytest.raises(UsageError, match=r"distilled has 96\.00%, not 97%"):
        page_of(script, root, None, {"runs": ["seed-0"], "variant": "distilled", "target": 0.97})


def test_readme_gets_its_table_between_markers(script: SimpleNamespace, root: Path) -> None:
    readme = root / "README.md"
    readme.write_text("before\n<!-- results: own -->\nold\n<!-- /results -->\nafter\n")
    page_of(script, root)
    text = script.page_files(root)[readme]
    assert "old" not in text and text.startswith("before\n<!-- results: own -->\n\n| variant |")
    assert "- `compress-model run" in text and text.endswith("\n\n<!-- /results -->\nafter\n")
    readme.write_text(text)
    assert script.page_files(root)[readme] == text
    readme.write_text("<!-- results: other -->\n<!-- /results -->\n")
    with pytest.raises(UsageError, match="no section 'other'"):
        script.page_files(root)
