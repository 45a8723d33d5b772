"""Short versions of the campaigns: they find nothing as things are, and they find planted faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import Job, environment

FOLDER = Path(__file__).resolve().parent

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the campaigns fork, and look into /proc")


def campaign(name: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a campaign, and return its summary, exit status and output."""
    command = [sys.executable, str(FOLDER / f"{name}_campaign.py"), "--folder", str(folder), *arguments]
    done = subprocess.run(
        [*command, "--json", str(folder / "found.json")], capture_output=True, text=True, env=environment()
    )
    assert (folder / "found.json").exists(), done.stderr
    summary: dict[str, Any] = json.loads((folder / "found.json").read_text())
    return {**summary["summary"], "status": done.returncode, "output": done.stdout}


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(tmp_path: Path) -> None:
    summary = campaign("crash", tmp_path, "--short", "--chains", "1")
    assert summary["status"] == summary["wrong"] == 0, summary["output"]
    assert summary["kills"] >= 2 and summary["resumed_to_the_end"] >= 1


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["skip-fsync", "skip-rename"])
def test_a_fault_in_writing_is_found_by_kills(tmp_path: Path, fault: str) -> None:
    summary = campaign("crash", tmp_path, "--short", "--chains", "1", "--plant", fault)
    assert summary["status"] == 1 and summary["wrong"] > 0, summary["output"]


def test_damages_are_named(job: Job, tmp_path: Path) -> None:
    summary = campaign("damage", tmp_path, "--short", str(job.root))
    assert summary["status"] == summary["wrong"] == 0, summary["output"]
    assert summary["damages"] >= 40 and set(summary["by"]) == {"store check", "report", "gap"}


@pytest.mark.parametrize("fault", ["unchecked-entries", "unchecked-runs"])
def test_an_unchecked_read_is_found_by_damages(job: Job, tmp_path: Path, fault: str) -> None:
    summary = campaign("damage", tmp_path, "--short", str(job.root), "--plant", fault)
    assert summary["status"] == 1 and summary["not_noticed"] > 0, summary["output"]
