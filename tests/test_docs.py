"""Commands, code and links in the Markdown files work."""

from __future__ import annotations

import argparse
import doctest
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
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
from safetensors.torch import save_file
from support import Job, environment, follows_the_schema, teacher_folder, typed
from typer.main import get_group

import compress
from compress.cli import app
from compress.deployment.runtimes import missing
from compress.models.embedding import class_list_of
from compress.models.students import load_embedding_student
from compress.models.teachers import load_teacher
from compress.models.text_tower import read_teacher, write_text
from compress.pipeline.run_folder import seal
from compress.recipe import load_recipe, parse_recipe
from compress.recipe.data import DataSection
from compress.recipe.models import Student
from compress.results import RunRecord
from compress.results.read import RESULTS, read_run
from compress.utils.resources import ASSETS, DEFAULT_TREND
from compress.utils.system import version_of

CHECKOUT = Path(compress.__file__).parents[1]
README = CHECKOUT / "README.md"
TUTORIAL = CHECKOUT / "recipes" / "TUTORIAL.md"
FOLDERS = ("", "compress/**/", "configs/", "recipes/**/", "scripts/", "tests/**/")
MARKDOWN = sorted({page for folder in FOLDERS for page in CHECKOUT.glob(f"{folder}*.md")})
GENERATED = {CHECKOUT / "recipes" / "REFERENCE.md"}
PAGES = [page for page in MARKDOWN if page not in GENERATED]
MAX_README_LINES = 150


def relative(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def code_blocks(page: Path, language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for name, text in blocks if name == language]


def command_lines(page: Path) -> list[str]:
    """Lines of the page's code blocks without a language, continuation lines joined."""
    return [line for block in code_blocks(page, "") for line in block.replace("\\\n", " ").splitlines()]


def cli_commands(pages: Iterable[Path] = PAGES) -> list[tuple[str, ...]]:
    """`compress-model` commands in code blocks and inline code, without comments and redirections."""
    lines = [line for page in pages for line in command_lines(page)]
    lines += re.findall(r"`(compress-model [^`]+)`", "\n".join(page.read_text() for page in pages))
    commands = [shlex.split(line.split("#")[0].split(" > ")[0]) for line in lines if line.startswith("compress-model ")]
    return list(dict.fromkeys(map(tuple, commands)))


PLACEHOLDER = re.compile(r"\b[A-Z]{3,}(\.(csv|py|txt|yaml))?\b")
TUTORIAL_COMMANDS = [command for command in cli_commands([TUTORIAL]) if command[1] not in ("init", "plan", "run")]
COMMANDS = cli_commands([page for page in PAGES if page != TUTORIAL])
FULL_CIFAR = [command for command in COMMANDS if "data.root=DIR" in command]
LONG = [command for command in COMMANDS if command[1] == "run" and not PLACEHOLDER.search(" ".join(command))]
SHORT = [command for command in COMMANDS + TUTORIAL_COMMANDS if command not in FULL_CIFAR + LONG]
SCRIPTS = [
    tuple(shlex.split(line.split("#")[0]))
    for page in PAGES
    for line in command_lines(page)
    if line.startswith("python ")
]


ANOTHER_MACHINE = f"""\
#!/bin/sh
for last; do :; done
exec sh -c "$(printf '%s' "$last" | sed 's|[^ ]* -c |{sys.executable} -c |')"
"""
"""Stands for `ssh` and `adb`: runs what would run on another machine here, with this Python."""


@pytest.fixture(scope="module")
def workspace(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A reader's folder, with a finished run, images and tables."""
    root = tmp_path_factory.mktemp("reader") / "workspace"
    shutil.copytree(job.root, root)
    copied = Job(root)
    copied.write()
    shutil.copytree(root / "images" / "test", root / "new")
    shutil.copytree(root / "images" / "test" / "both", root / "new" / "cat")
    (root / "photos").symlink_to(root / "images" / "test")
    (root / "recipes").symlink_to(CHECKOUT / "recipes")
    save_file(timm.create_model("mobilenetv3_small_100", num_classes=3).state_dict(), root / "weights.safetensors")
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
    (root / "space.yaml").write_text("parameters: {stages.pruned.target_macs: [0.6]}\nsampler: grid\n")
    (root / "packed").mkdir()
    with tarfile.open(root / "packed" / "train-0.tar", "w") as archive:
        archive.add(root / "photo.jpg", "0.jpg")
    write_encoder(root / "encoder")
    (root / "names.txt").write_text("cat\nfish: small fish\n")
    (root / "bin").mkdir()
    for command in ("ssh", "adb"):
        (root / "bin" / command).write_text(ANOTHER_MACHINE)
        (root / "bin" / command).chmod(0o755)
    (root / "RUN").symlink_to(next((copied.runs / "tiny").iterdir()))
    changed = Path(shutil.copytree(root / "RUN", root / "CHANGED"))
    record = read_run(changed)
    record.model_copy(update={"run": record.run.model_copy(update={"id": "20990101-000000"})}).write(changed / RESULTS)
    seal(changed)
    return copied


def write_encoder(folder: Path) -> None:
    """Write an embedding student of the embedded teacher, untrained, as an artifact with its text tower."""
    teacher = read_teacher("embedded")
    head = load_teacher(teacher, DataSection(source="any"), ["cat", "dog"], 32).head
    classes = class_list_of(head, ["cat", "dog"], ["cat", "dog"], ["a photo of a {}."])
    network, _ = load_embedding_student(Student(model="test_resnet"), classes, 32)
    compress.export(
        network.classifier, folder, preprocess=network.preprocess, classes=classes.names, runtimes=["onnxruntime"]
    )
    write_text(teacher, folder / "text")


PLACEHOLDERS = {
    "ARTIFACT": "RUN/artifacts/int8/onnx",
    "CHANGED": "CHANGED",
    "DATA": "photos",
    "DIR": "photos",
    "ENCODER": "encoder/onnx",
    "FILE": "page.html",
    "FILE.csv": "points.csv",
    "FILE.py": "recipes/plugins/own_loss.py",
    "FILE.yaml": "tiny.yaml",
    "FOLDER": "photos",
    "IMAGE": "photo.jpg",
    "NAME": "tiny.yaml",
    "NAMES.txt": "names.txt",
    "OWNER": "me",
    "RECIPE": "tiny.yaml",
    "RUN": "RUN",
    "SHARDS": "packed",
    "SPACE.yaml": "space.yaml",
    "URL": "memory://docs",
    "WEIGHTS": "weights.safetensors",
}
"""Paths in the workspace for the words in capitals that a reader replaces."""


def fill(command: tuple[str, ...], values: Mapping[str, str] = PLACEHOLDERS) -> list[str]:
    words = ["memory://docs" if word.startswith("s3://") else word for word in command]  # no network
    return [PLACEHOLDER.sub(lambda word: values[word[0]], part) for part in words]


def run_cli(command: Sequence[str], cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", *command[1:]], capture_output=True, text=True, cwd=cwd, env=environment()
    )
    assert done.returncode == 0, done.stderr


ELSEWHERE = {command for command in SHORT if command not in cli_commands([README]) and command[1] in ("bench", "init")}
"""Commands that take long, on pages beside the README, which has their like."""


@pytest.mark.parametrize(
    "command",
    [pytest.param(command, marks=[pytest.mark.slow] if command in ELSEWHERE else []) for command in SHORT],
    ids=" ".join,
)
def test_commands_succeed(
    command: tuple[str, ...], workspace: Job, no_plugins: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.cli.init.MAX_TIMED", 0)  # `init` then times no network, which would take longest
    if "ray" in command and version_of("ray") is None:
        pytest.skip("needs Ray")
    (workspace.root / "recipe.yaml").unlink(missing_ok=True)  # written by an earlier `init`
    path = f"{workspace.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = typed(*fill(command)[1:], cwd=workspace.root, HF_HUB_OFFLINE="1", PATH=path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", FULL_CIFAR, ids=" ".join)
def test_commands_on_full_cifar10_are_valid(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    verb, *rest = command[1:]
    assert verb in ("plan", "run")
    with get_group(app).commands[verb].make_context(verb, rest) as given:
        recipe = load_recipe(given.params["recipe"], given.params["overrides"])
    assert recipe.data.root == "DIR"  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder shared by all long commands: later ones take from the store what earlier ones made."""
    root = tmp_path_factory.mktemp("runs")
    (root / "recipes").symlink_to(CHECKOUT / "recipes")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG, ids=" ".join)
def test_long_runs_succeed(command: tuple[str, ...], runs: Path) -> None:
    absent = {
        name for stage in load_recipe(command[2]).stages for name in getattr(stage, "runtimes", []) if missing(name)
    }
    if absent:
        pytest.skip(f"the recipe needs {', '.join(sorted(absent))}")
    run_cli(command, runs)


@pytest.mark.slow
def test_quickstart_figures_follow_from_its_results(runs: Path) -> None:
    if not list(runs.glob("runs/quickstart/*/results.json")):
        run_cli(("compress-model", "run", "quickstart"), runs)
    for path in runs.glob("runs/quickstart/*/results.json"):
        results = json.loads(path.read_text())
        assert recompute(RunRecord.model_validate(results)) > 100
        follows_the_schema(results)


def test_commands_are_collected() -> None:
    assert len(SHORT) >= 30 and len(LONG) >= 5 and len(FULL_CIFAR) >= 2 and len(SCRIPTS) >= 8


class ArgumentsParsed(Exception):
    """The script accepted its arguments."""


@pytest.mark.parametrize("command", SCRIPTS, ids=" ".join)
def test_scripts_accept_documented_arguments(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop after parsing; the scripts take minutes."""
    script = CHECKOUT / command[1]
    parse = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser) -> None:
        parse(parser)
        raise ArgumentsParsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", list(command[1:]))
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(ArgumentsParsed):
        runpy.run_path(str(script), run_name="__main__")


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_doctests_pass(page: Path) -> None:
    examples = doctest.DocTestParser().get_doctest(
        "".join(block for block in code_blocks(page, "python") if block.startswith(">>> ")), {}, page.name, str(page), 0
    )
    output: list[str] = []
    doctest.DocTestRunner(verbose=False).run(examples, out=output.append)
    assert not output, "".join(output)


def test_efficiency_readme_has_a_worked_example() -> None:
    blocks = code_blocks(CHECKOUT / "compress" / "efficiency" / "README.md", "python")
    assert sum(block.startswith(">>> ") for block in blocks) >= 6


@pytest.mark.slow
def test_readme_python_runs(workspace: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run it verbatim, with the finished run for `compress.run` and small stand-ins for the reader's own objects."""
    api, artifacts = code_blocks(README, "python")
    run, rng = compress.run, np.random.default_rng(0)

    def images(count: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.integers(0, 256, (count, 3, 32, 32), np.uint8), np.arange(count) % 2

    def network() -> torch.nn.Module:
        return timm.create_model("test_resnet", num_classes=2).eval()

    names: dict[str, Any] = {
        "student": network(),
        "teacher": network(),
        "calibration_batches": [torch.rand(8, 3, 32, 32)],
    }
    names["images"], names["labels"] = images(16)
    names["images_v"], names["labels_v"] = images(8)
    monkeypatch.setattr(compress, "run", lambda recipe, overrides: run(workspace.recipe, workspace.runs))
    monkeypatch.chdir(workspace.root)
    exec(compile(api, "README.md", "exec"), names)
    assert names.pop("probabilities").shape == (1, 3)
    assert names["costs"]["pruned"]["macs"] < 0.51 * names["costs"]["dense"]["macs"]
    folder, root = names["results"].folder, workspace.runs
    assert folder.is_relative_to(root.resolve()) or folder.is_relative_to(root)
    monkeypatch.chdir(workspace.root / "RUN")
    shutil.copy(workspace.root / "photo.jpg", "photo.jpg")
    exec(compile(artifacts, "README.md", "exec"), names)
    assert names["probabilities"].shape == (1, 3)


@pytest.mark.slow
def test_tutorial_runs_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (make_folders,) = code_blocks(TUTORIAL, "python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    exec(compile(make_folders, "TUTORIAL.md", "exec"), {})
    for command in cli_commands([TUTORIAL]):
        runs = sorted(tmp_path.glob("runs/photos/*"))
        run_cli(fill(command, dict(zip(("RUN", "CHANGED"), map(str, runs), strict=False))), tmp_path)
    assert len(list(tmp_path.glob("runs/photos/*/report.html"))) == 2


def recipe_snippets() -> list[str]:
    starts = tuple(f"{key}:{after}" for key in ("data", "stages", "measure", "worth") for after in ("\n", " {"))
    return [block for page in PAGES for block in code_blocks(page, "yaml") if block.startswith(starts)]


@pytest.mark.parametrize("snippet", recipe_snippets())
def test_recipe_snippets_are_valid(snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ASSETS / "teacher", tmp_path / "teachers" / "ours")
    monkeypatch.chdir(tmp_path)
    recipe = {"data": "cifar10-sample", "stages": [{"id": "s", "kind": "train", "student": "resnet18"}]}
    parse_recipe(yaml.safe_dump(recipe | yaml.safe_load(snippet)))


def test_the_default_trend_of_the_configs_is_that_of_recipes() -> None:
    text = " ".join((CHECKOUT / "configs" / "README.md").read_text().split())
    assert f"The default of `trend:` is `{DEFAULT_TREND}`." in text


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= MAX_README_LINES


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=relative)
def test_relative_links_resolve(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{relative(page)}: {link}: file not found"
        assert not anchor or anchor in anchors(target), f"{relative(page)}: {link}: heading not found"


def test_paths_in_contributing_exist() -> None:
    """Paths with `<placeholders>` are examples."""
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    paths = set(re.findall(r"(?<![\w/.])(?:compress|tests|scripts|recipes|configs)/[\w./<>-]*", text))
    assert len(paths) >= 30
    absent = [path for path in paths if "<" not in path and not (CHECKOUT / path.rstrip(".")).exists()]
    assert not absent, f"CONTRIBUTING.md names paths that do not exist: {sorted(absent)}"


@pytest.mark.parametrize("page", sorted(CHECKOUT.glob("compress/*/README.md")), ids=relative)
def test_modules_in_package_readmes_exist(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    modules = {name for row in rows for name in re.findall(r"`(\w+\.py)`", row.split(" | ")[0])}
    absent = [name for name in modules if not (page.parent / name).exists()]
    assert not absent, f"{relative(page)} names modules that do not exist: {sorted(absent)}"


@pytest.mark.parametrize("page", sorted(CHECKOUT.glob("compress/*/README.md")), ids=relative)
def test_tables_of_modules_are_whole(page: Path) -> None:
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(\w+\.py)`", row)}
    unnamed = {file.name for file in page.parent.glob("*.py")} - {"__init__.py"} - named
    assert not named or not unnamed, f"{relative(page)} lacks {sorted(unnamed)}"
