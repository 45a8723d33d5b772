"""Short versions of the fuzz campaign: it finds nothing as things are, and it finds planted faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("fuzz_campaign.py")
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it needs Linux's limits")


def campaign(tmp_path: Path, *words: str) -> tuple[int, dict[str, dict[str, object]], str]:
    places = ["--json", str(tmp_path / "it.json"), "--keep", str(tmp_path / "kept")]
    done = subprocess.run([sys.executable, str(SCRIPT), *places, *words], capture_output=True, text=True)
    rows = json.loads((tmp_path / "it.json").read_text())["targets"]
    return done.returncode, {row["target"]: row for row in rows}, done.stdout


def test_fast_targets_let_no_hostile_input_through(tmp_path: Path) -> None:
    targets = ("recipe", "image", "tree", "source", "table", "store")
    status, rows, output = campaign(tmp_path, "--inputs", "180", "--targets", *targets)
    assert status == 0, output
    assert all(row["accepted"] and row["inputs"] for row in rows.values()), "some inputs are good, or nothing is tested"
    assert rows["recipe"]["refused"] and rows["image"]["refused"] and rows["tree"]["refused"]


@pytest.mark.slow
def test_no_target_lets_a_hostile_input_through(tmp_path: Path) -> None:
    status, _, output = campaign(tmp_path, "--inputs", "2000", "--seed", "7")
    assert status == 0, output


@pytest.mark.slow
def test_a_planted_reader_that_unpacks_shards_is_found(tmp_path: Path) -> None:
    status, rows, output = campaign(tmp_path, "--inputs", "75", "--plant", "unpacked-shards")
    assert status == 1 and rows["source"]["finding"] and "escaped-" in output


def test_a_planted_reader_of_yaml_object_tags_is_found(tmp_path: Path) -> None:
    status, rows, output = campaign(tmp_path, "--inputs", "40", "--plant", "yaml-tags")
    assert status == 1 and rows["recipe"]["finding"] and "code of the input ran" in output
    kept = [Path(finding["input"]) for finding in rows["recipe"]["findings"]]  # type: ignore[attr-defined]
    assert all((folder / "it.yaml").exists() for folder in kept)


@pytest.mark.parametrize(
    ("plant", "inputs", "words"),
    [
        ("unescaped-class-name", "8", "the page holds <"),
        ("pickle", "60", "code of the input ran"),
    ],
)
@pytest.mark.slow
def test_a_planted_fault_is_found(tmp_path: Path, plant: str, inputs: str, words: str) -> None:
    status, _, output = campaign(tmp_path, "--inputs", inputs, "--plant", plant)
    assert status == 1 and words in output
