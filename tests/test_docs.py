"""What the pages tell people to type works."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from recompute import recompute
from support import environment, follows_the_schema

import compress
from compress.recipe import parse_recipe

CHECKOUT = Path(compress.__file__).parents[1]
PAGES = sorted([CHECKOUT / "README.md", *CHECKOUT.glob("*/README.md"), *CHECKOUT.glob("compress/*/README.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def _joined(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def commands() -> list[list[str]]:
    lines = [line for page in PAGES for block in blocks(page, "") for line in _joined(block)]
    lines += re.findall(r"`(compress-model [^`]+)`", "\n".join(page.read_text() for page in PAGES))
    found = [shlex.split(line.split("#")[0]) for line in lines if line.startswith("compress-model ")]
    # Words in capitals are for the reader to fill in.
    return [c for c in dict.fromkeys(map(tuple, found)) if not any(re.search(r"(^|[.=])[A-Z]+([.=]|$)", w) for w in c)]


def work(command: tuple[str, ...], cwd: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "compress", *command[1:]], capture_output=True, text=True, cwd=cwd, env=environment()
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in commands() if c[1] != "run"], ids=" ".join)
def test_commands(command: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "runs" / "store").mkdir(parents=True)
    work(command, tmp_path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder, as a reader would have it: later commands take from the store what earlier ones made."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.slow
@pytest.mark.parametrize("command", [c for c in commands() if c[1] == "run" and "cifar10" not in c[2]], ids=" ".join)
def test_runs(command: tuple[str, ...], runs: Path) -> None:
    work(command, runs)


@pytest.mark.slow
def test_every_figure_of_the_quickstart_follows_from_its_results(runs: Path) -> None:
    if not list(runs.glob("runs/quickstart/*/results.json")):
        work(("compress-model", "run", "quickstart"), runs)
    for path in runs.glob("runs/quickstart/*/results.json"):
        results = json.loads(path.read_text())
        assert recompute(results, results["efficiency"][0]["trend"]) > 100
        follows_the_schema(results)


def test_there_are_commands() -> None:
    assert len(commands()) >= 3


def parts_of_recipes() -> list[str]:
    own = blocks(CHECKOUT / "configs" / "README.md", "yaml")
    return blocks(CHECKOUT / "README.md", "yaml") + [
        block for block in own if block.startswith(("data:\n", "stages:\n"))
    ]


@pytest.mark.parametrize("block", parts_of_recipes())
def test_parts_of_recipes(block: str) -> None:
    part = yaml.safe_load(block)
    recipe = {"data": "cifar10-sample", "stages": [{"id": "s", "kind": "train", "student": "resnet18"}], **part}
    parse_recipe(yaml.safe_dump(recipe))


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page}: {target}"
