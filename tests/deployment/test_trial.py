"""Files that crash their runtime: found in a process of its own, with the others after them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from compress.deployment import trial

PLUGIN = """
import os, signal, time
from compress import plugins
from compress.deployment.coverage import Coverage
from compress.deployment.runtime import Runtime
from compress.registry import RUNTIMES, RuntimeEntry

class Fragile(Runtime):
    format, files, reads, engine, packages, install = "fragile", ("model.x",), (".x",), "numpy", ("numpy",), "none"
    build = coverage = lambda *_: None
    def load(self, path, threads=None):
        return lambda images: exec(path.read_text())

RUNTIMES["fragile"] = RuntimeEntry(Fragile, (".x",))
"""
WELL, RAISES = "assert images.shape == (1, 3, 8, 8)", "raise ValueError('no such operator')"
CRASHES, HANGS = "import os; os.kill(os.getpid(), 11)", "import time; time.sleep(60)"


def file(folder: Path, name: str, code: str) -> tuple[str, Path]:
    (folder / name).mkdir()
    (folder / name / "preprocess.json").write_text(json.dumps({"resolution": 8}))
    (folder / name / "model.x").write_text(code)
    return "fragile", folder / name / "model.x"


@pytest.fixture(autouse=True)
def _fragile_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fragile.py").write_text(PLUGIN)
    monkeypatch.setenv("COMPRESS_PLUGINS", str(tmp_path / "fragile.py"))


def test_each_file_that_crashes_is_found_and_no_other(tmp_path: Path) -> None:
    codes = {"a": WELL, "b": CRASHES, "c": RAISES, "d": CRASHES, "e": WELL}
    found = trial.crashing({name: file(tmp_path, name, code) for name, code in codes.items()})
    assert found == {name: f"fragile cannot run {name}: its process was killed by SIGSEGV" for name in ("b", "d")}


def test_a_file_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "LONGEST_S", 5.0)
    started = time.monotonic()
    found = trial.crashing({"slow": file(tmp_path, "slow", HANGS)})
    assert found == {"slow": "fragile cannot run slow: it hangs, and was ended after 5 s"}
    assert time.monotonic() - started < 30


def test_without_files_there_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.subprocess, "run", None)
    assert trial.crashing({}) == {}
