"""A new user's first week on photographs; each step's output is read as a person reads it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from deployment.bare_python import link_packages
from own_photographs import SIX, make_photographs
from support import environment

LONGEST_LINE = 200
CHECKOUT = Path(__file__).parents[2]
NEEDED = ("onnxruntime", "numpy", "pillow", "typer")
SETTINGS = (
    "stages.trained.student=test_resnet",
    "stages.trained.epochs=30",
    "stages.pruned.repair.epochs=5",
    "stages.pruned.round_to=4",
    "measure={rounds: 5, processes: 1, energy: off}",
)


@dataclass(frozen=True)
class Week:
    """The folder that a new user works in."""

    folder: Path
    site: Path

    def start(self, *arguments: str, bare: bool = False) -> subprocess.Popen[str]:
        """Start a command, `bare` on a machine that has a runtime and little else."""
        variables = {**environment(), "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}
        python = [sys.executable]
        if bare:
            if not self.site.exists():
                self.site.mkdir()
                link_packages(NEEDED, self.site)
            python = [os.path.realpath(sys.executable), "-S"]
            variables["PYTHONPATH"] = f"{CHECKOUT}{os.pathsep}{self.site}"
        return subprocess.Popen(
            [*python, "-m", "compress", *arguments],
            cwd=self.folder,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def type(self, *arguments: str, bare: bool = False, status: int = 0) -> str:
        """Return what a command prints, after reading it."""
        return self.read(self.start(*arguments, bare=bare), status)

    def read(self, process: subprocess.Popen[str], status: int = 0) -> str:
        out, err = process.communicate(timeout=600)
        assert process.returncode == status, err
        for line in (out + err).splitlines():
            told = line.removeprefix("Warning: ")
            assert len(told) <= LONGEST_LINE or told.lstrip().startswith(("{", '"')), line
            assert not any(word in told for word in ("Traceback", "unexpected", "Warning:", "…")), line
        return out + err

    def runs(self) -> list[Path]:
        """Return the folders of the runs that ended, the earliest first."""
        return sorted(path.parent for path in self.folder.glob("runs/*/*/SHA256SUMS"))

    def log(self) -> list[dict[str, Any]]:
        """Return the log of the latest run."""
        latest = max(self.folder.glob("runs/*/*/log.jsonl"), key=os.path.getmtime, default=None)
        return [json.loads(line) for line in latest.read_text().splitlines()] if latest else []


def settings(*more: str) -> list[str]:
    return [word for change in (*SETTINGS, *more) for word in ("--set", change)]


@pytest.mark.slow
@pytest.mark.dry_run
def test_a_week(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    week = Week(folder, tmp_path / "site")
    made = make_photographs(folder / "my photos", {name: (cifar, count // 2) for name, (cifar, count) in SIX.items()})

    # Monday: from photographs to a recipe
    said = week.type("init", "my photos")
    assert "6 classes" in said and "compress-model run recipe.yaml" in said
    assert "already exists" in week.type("init", "my photos", status=2)
    assert "valid" in week.type("validate", "recipe.yaml")
    wrong = ("--set", "stages.trained.epochs=many")
    assert "stages.trained.epochs" in week.type("validate", "recipe.yaml", *wrong, status=2)

    # Tuesday: what it will take
    out, err = week.start("plan", "recipe.yaml", *settings(), "--json").communicate()
    planned = {row["unit"]: row for row in json.loads(out)}
    assert "dry run of" in err
    assert not any(row["stored"] for row in planned.values())

    # Wednesday: a run that is interrupted, and goes on
    running = week.start("run", "recipe.yaml", *settings())
    began = time.monotonic()
    while not any(row.get("epoch", 0) >= 3 for row in week.log()):
        assert running.poll() is None and time.monotonic() - began < 300
        time.sleep(0.1)
    running.send_signal(signal.SIGINT)
    said = week.read(running, status=130)
    assert week.runs() == [] and "dry run" not in said and len(said) < 3000, "planning has tried the stages"
    said = week.type("run", "recipe.yaml", *settings())
    assert "trained: resumes after epoch" in said and "report.html" in said and "dry run" not in said
    (first,) = week.runs()
    results = json.loads((first / "results.json").read_text())
    assert results["data"]["skipped"] == made["broken"] > 0
    assert [variant["id"] for variant in results["variants"]] == ["trained", "pruned", "int8"]

    # Thursday: a change, and what it did
    said = week.type("run", "recipe.yaml", *settings("stages.pruned.target_macs=0.7"))
    assert "trained: taken from the store" in said and "pruned: pruning trained" in said
    second = week.runs()[-1]
    assert second != first
    said = week.type("compare", str(first), str(second))
    assert "target_macs" in said and "pruned" in said
    assert json.loads(week.start("compare", str(first), str(second), "--json").communicate()[0])

    # the same day, in CI: its MACs are 40% more, its parent is the same
    rule = ("--rule", "macs<=+1%")
    said = week.type("gate", str(second), "--against", str(first), *rule, status=3)
    assert "pruned" in said and "fail" in said
    said = week.type("gate", str(second), "--against", str(first), *rule, "--variant", "trained")
    assert "trained" in said and "pass" in said
    absent = ("--variant", "absent")
    assert "absent" in week.type("gate", str(second), "--against", str(first), *rule, *absent, status=2)

    # Friday: on a machine that has a runtime and little else
    artifact = str(second / "artifacts" / "int8" / "onnx")
    photo = str(next((folder / "my photos" / "frog").glob("IMG*")))
    assert "frog" in week.type("predict", artifact, photo, bare=True)
    said = week.type("evaluate", artifact, "--data", "my photos", bare=True)
    assert "top-1" in said.lower()
    assert "pip install" in week.type("run", "recipe.yaml", bare=True, status=1)

    # Saturday: tidying up
    assert "trained" in week.type("store", "list")
    week.type("store", "check")
    week.type("store", "clean", "--keep-runs", "1", "--dry-run")

    # Sunday: was the estimate right?
    log = [json.loads(line) for line in (first / "log.jsonl").read_text().splitlines()]
    took = {row["unit"]: row["seconds"] for row in log if row["event"] == "made" and "seconds" in row}
    expected = sum(planned[unit]["seconds"] for unit in took)
    assert sum(took.values()) / 3 < expected < 3 * sum(took.values()), (expected, took)
