"""The campaigns of scripts/, in short: they find nothing, and they find what is put in for them to find."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Job, environment

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the campaigns fork, and look into /proc")


def campaign(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """The summary of a campaign, and its exit status."""
    command = [sys.executable, str(SCRIPTS / f"{name}_campaign.py"), "--folder", str(folder), *arguments]
    done = subprocess.run(
        [*command, "--json", str(folder / "found.json")], capture_output=True, text=True, env=environment()
    )
    assert (folder / "found.json").exists(), done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return {**found["summary"], "status": done.returncode, "said": done.stdout}


def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    found = campaign("crash", tmp_path, "--short", "--chains", "1")
    assert found["status"] == found["wrong"] == 0, found["said"]
    assert found["kills"] >= 2 and found["resumed_to_the_end"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["skip-fsync", "skip-rename"])
def test_a_fault_in_writing_is_found_by_kills(tmp_path: Path, fault: str) -> None:
    found = campaign("crash", tmp_path, "--short", "--chains", "1", "--plant", fault)
    assert found["status"] == 1 and found["wrong"] > 0, found["said"]


def test_damages_are_named(job: Job, tmp_path: Path) -> None:
    found = campaign("damage", tmp_path, "--short", str(job.root))
    assert found["status"] == found["wrong"] == 0, found["said"]
    assert found["damages"] >= 40 and set(found["by"]) == {"store check", "report", "gap"}


@pytest.mark.parametrize("fault", ["unchecked-entries", "unchecked-runs"])
def test_an_unchecked_read_is_found_by_damages(job: Job, tmp_path: Path, fault: str) -> None:
    found = campaign("damage", tmp_path, "--short", str(job.root), "--plant", fault)
    assert found["status"] == 1 and found["not_noticed"] > 0, found["said"]
