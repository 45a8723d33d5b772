"""The fuzz campaign, short: nothing is found as things are, and planted faults are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import compress

SCRIPT = Path(compress.__file__).parents[1] / "scripts" / "fuzz_campaign.py"
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it needs Linux's limits")


def campaign(tmp_path: Path, *words: str) -> tuple[int, dict[str, dict[str, object]], str]:
    places = ["--json", str(tmp_path / "it.json"), "--keep", str(tmp_path / "kept")]
    done = subprocess.run([sys.executable, str(SCRIPT), *places, *words], capture_output=True, text=True)
    rows = json.loads((tmp_path / "it.json").read_text())["targets"]
    return done.returncode, {row["target"]: row for row in rows}, done.stdout


def test_nothing_gets_in(tmp_path: Path) -> None:
    targets = ("recipe", "image", "tree", "source", "table", "store")
    status, rows, said = campaign(tmp_path, "--inputs", "180", "--targets", *targets)
    assert status == 0, said
    assert all(row["accepted"] and row["inputs"] for row in rows.values()), "some inputs are good, or nothing is tested"
    assert rows["recipe"]["refused"] and rows["image"]["refused"] and rows["tree"]["refused"]


@pytest.mark.slow
def test_nothing_gets_in_anywhere(tmp_path: Path) -> None:
    status, _, said = campaign(tmp_path, "--inputs", "2000", "--seed", "7")
    assert status == 0, said


@pytest.mark.slow
def test_a_reader_that_unpacks_is_found(tmp_path: Path) -> None:
    status, rows, said = campaign(tmp_path, "--inputs", "75", "--plant", "unpacked-shards")
    assert status == 1 and rows["source"]["finding"] and "escaped-" in said


def test_a_reader_of_object_tags_is_found(tmp_path: Path) -> None:
    status, rows, said = campaign(tmp_path, "--inputs", "40", "--plant", "yaml-tags")
    assert status == 1 and rows["recipe"]["finding"] and "code of the input ran" in said
    kept = [Path(finding["input"]) for finding in rows["recipe"]["findings"]]  # type: ignore[attr-defined]
    assert all((folder / "it.yaml").exists() for folder in kept)


@pytest.mark.parametrize(
    ("plant", "inputs", "words"),
    [
        ("unescaped-class-name", "8", "the page holds <"),
        pytest.param("pickle", "60", "code of the input ran", marks=pytest.mark.slow),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, plant: str, inputs: str, words: str) -> None:
    status, _, said = campaign(tmp_path, "--inputs", inputs, "--plant", plant)
    assert status == 1 and words in said
