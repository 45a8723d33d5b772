"""What the pages tell people to type works."""

from __future__ import annotations

import argparse
import doctest
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image
from recompute import recompute
from support import Job, environment, follows_the_schema, typed

import compress
from compress.deployment.runtimes import missing
from compress.recipe import load_recipe, parse_recipe
from compress.results import RunRecord

CHECKOUT = Path(compress.__file__).parents[1]
TUTORIAL = CHECKOUT / "recipes" / "TUTORIAL.md"
PAGES = sorted(
    [CHECKOUT / "README.md", TUTORIAL]
    + [page for where in ("*", "compress/*", "recipes/*") for page in CHECKOUT.glob(f"{where}/README.md")]
)


def blocks(page: Path, language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for named, text in found if named == language]


def _joined(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def commands(pages: Iterable[Path] = PAGES) -> list[tuple[str, ...]]:
    lines = [line for page in pages for block in blocks(page, "") for line in _joined(block)]
    lines += re.findall(r"`(compress-model [^`]+)`", "\n".join(page.read_text() for page in pages))
    found = [shlex.split(line.split("#")[0].split(" > ")[0]) for line in lines if line.startswith("compress-model ")]
    return list(dict.fromkeys(map(tuple, found)))


PLACE = re.compile(r"\b[A-Z]{3,}(\.(csv|py|yaml))?\b")
TUTORIALS = [command for command in commands([TUTORIAL]) if command[1] not in ("init", "plan", "run")]
COMMANDS = commands([page for page in PAGES if page != TUTORIAL])
WHOLE_CIFAR = [command for command in COMMANDS if "data.root=DIR" in command]
LONG = [command for command in COMMANDS if command[1] == "run" and not PLACE.search(" ".join(command))]
SHORT = [command for command in COMMANDS + TUTORIALS if command not in WHOLE_CIFAR + LONG]


@pytest.fixture(scope="module")
def desk(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A folder as a reader would have it, with a finished run and photographs."""
    root = tmp_path_factory.mktemp("reader") / "desk"
    shutil.copytree(job.root, root)
    copied = Job(root)
    copied.write()
    shutil.copytree(root / "images" / "test", root / "new")
    shutil.copytree(root / "images" / "test" / "both", root / "new" / "cat")
    (root / "photos").symlink_to(root / "images" / "test")
    (root / "recipes").symlink_to(CHECKOUT / "recipes")
    Image.open(root / "new" / "both" / "0.png").save(root / "photo.jpg")
    columns = {
        "Model": "m{n}",
        "Publication date": "{year}-01-01",
        "Training compute (FLOP)": "1e{n}",
        "Hardware name": "c{n}",
        "Release date": "{year}-01-01",
        "FP32 (single precision) performance (FLOP/s)": "2e{n}",
        "TDP (W)": "100",
    }
    rows = [",".join(columns), *(",".join(columns.values()).format(n=n, year=2012 + n) for n in range(8))]
    (root / "points.csv").write_text("\n".join(rows))
    (root / "RUN").symlink_to(next((copied.runs / "tiny").iterdir()))
    shutil.copytree(root / "RUN", root / "CHANGED")
    return copied


PLACES = {
    "ARTIFACT": "RUN/artifacts/int8/onnx",
    "CHANGED": "CHANGED",
    "DATA": "photos",
    "DIR": "photos",
    "FILE": "page.html",
    "FILE.csv": "points.csv",
    "FILE.py": "recipes/plugins/own_loss.py",
    "FILE.yaml": "tiny.yaml",
    "FOLDER": "photos",
    "IMAGE": "photo.jpg",
    "NAME": "tiny.yaml",
    "RUN": "RUN",
}
"""What words in capitals stand for, which the reader fills in: paths on the desk."""


def filled(command: tuple[str, ...], places: Mapping[str, str] = PLACES) -> list[str]:
    return [PLACE.sub(lambda word: places[word[0]], part) for part in command]


def work(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", *command[1:]], capture_output=True, text=True, cwd=cwd, env=environment()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", SHORT, ids=" ".join)
def test_commands(command: tuple[str, ...], desk: Job, no_plugins: None) -> None:
    (desk.root / "recipe.yaml").unlink(missing_ok=True)  # which another `init` has written
    done = typed(*filled(command)[1:], cwd=desk.root, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", WHOLE_CIFAR, ids=" ".join)
def test_commands_on_the_whole_of_cifar10_are_valid(command: tuple[str, ...]) -> None:
    verb, name, *rest = command[1:]
    assert verb in ("plan", "run") and rest[::2] == ["--set"] * len(rest[::2])
    assert load_recipe(name, rest[1::2]).data.root == "DIR"  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, as a reader would have it: later commands take from the store what earlier ones made."""
    root = tmp_path_factory.mktemp("runs")
    (root / "recipes").symlink_to(CHECKOUT / "recipes")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG, ids=" ".join)
def test_runs(command: tuple[str, ...], runs: Path) -> None:
    absent = {
        name for stage in load_recipe(command[2]).stages for name in getattr(stage, "runtimes", []) if missing(name)
    }
    if absent:
        pytest.skip(f"the recipe asks for {', '.join(sorted(absent))}")
    work(command, runs)


@pytest.mark.slow
def test_every_figure_of_the_quickstart_follows_from_its_results(runs: Path) -> None:
    if not list(runs.glob("runs/quickstart/*/results.json")):
        work(("compress-model", "run", "quickstart"), runs)
    for path in runs.glob("runs/quickstart/*/results.json"):
        results = json.loads(path.read_text())
        assert recompute(RunRecord.model_validate(results)) > 100
        follows_the_schema(results)


def test_there_are_commands() -> None:
    assert len(SHORT) >= 30 and len(LONG) >= 5 and len(WHOLE_CIFAR) == 2 and len(SCRIPTS) >= 8


SCRIPTS = [
    tuple(shlex.split(line))
    for page in PAGES
    for block in blocks(page, "")
    for line in _joined(block)
    if line.startswith("python ")
]


class Parsed(Exception):
    """The arguments were understood."""


@pytest.mark.parametrize("command", SCRIPTS, ids=" ".join)
def test_scripts_take_these_arguments(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """What they then do takes minutes."""
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser) -> None:
        parse(parser)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", list(command[1:]))
    monkeypatch.syspath_prepend(str(CHECKOUT / "scripts"))
    with pytest.raises(Parsed):
        runpy.run_path(str(CHECKOUT / command[1]), run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_python_with_its_answers(page: Path) -> None:
    found = doctest.DocTestParser().get_doctest(
        "".join(block for block in blocks(page, "python") if block.startswith(">>> ")), {}, page.name, str(page), 0
    )
    said: list[str] = []
    doctest.DocTestRunner(verbose=False).run(found, out=said.append)
    assert not said, "".join(said)


def test_the_worked_example_is_there() -> None:
    assert sum(block.startswith(">>> ") for block in blocks(CHECKOUT / "compress/efficiency/README.md", "python")) >= 6


@pytest.mark.slow
def test_python_of_the_readme(desk: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is written, but for the run, which is the finished job's, and what stands for the reader's own."""
    whole, parts = blocks(CHECKOUT / "README.md", "python")
    run, rng = compress.run, np.random.default_rng(0)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 3, 32, 32), np.uint8), np.arange(count) % 2

    def network() -> torch.nn.Module:
        return timm.create_model("test_resnet", num_classes=2).eval()

    own: dict[str, Any] = {
        "student": network(),
        "teacher": network(),
        "calibration_batches": [torch.rand(8, 3, 32, 32)],
    }
    own["images"], own["labels"] = images(16)
    own["images_v"], own["labels_v"] = images(8)
    monkeypatch.setattr(compress, "run", lambda recipe, overrides: run(desk.recipe, desk.runs))
    monkeypatch.chdir(desk.root)
    exec(compile(whole, "README.md", "exec"), own)
    assert own["answers"].shape == (1, 3) and own["costs"]["pruned"]["macs"] < 0.51 * own["costs"]["dense"]["macs"]
    assert own["results"].folder.is_relative_to(desk.runs.resolve()) or own["results"].folder.is_relative_to(desk.runs)
    monkeypatch.chdir(desk.root / "RUN")
    shutil.copy(desk.root / "photo.jpg", "photo.jpg")
    exec(compile(parts, "README.md", "exec"), own)
    assert own["probabilities"].shape == (1, 3)


@pytest.mark.slow
def test_the_tutorial_from_its_first_line_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (practice,) = blocks(TUTORIAL, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(compile(practice, "TUTORIAL.md", "exec"), {})
    for command in commands([TUTORIAL]):
        runs = sorted(tmp_path.glob("runs/photos/*"))
        work(filled(command, dict(zip(("RUN", "CHANGED"), map(str, runs), strict=False))), tmp_path)
    assert len(list(tmp_path.glob("runs/photos/*/report.html"))) == 2


def parts_of_recipes() -> list[str]:
    sections = ("data:\n", "stages:\n", "measure:\n", "worth:\n")
    return [block for page in PAGES for block in blocks(page, "yaml") if block.startswith(sections)]


@pytest.mark.parametrize("block", parts_of_recipes())
def test_parts_of_recipes(block: str) -> None:
    part = yaml.safe_load(block)
    recipe = {"data": "cifar10-sample", "stages": [{"id": "s", "kind": "train", "student": "resnet18"}], **part}
    parse_recipe(yaml.safe_dump(recipe))


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"
