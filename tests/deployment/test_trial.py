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
WELL, RAISES = "assert images.shape[1:] == (3, 8, 8)", "raise ValueError('no such operator')"
CRASHES, HANGS = "import os; os.kill(os.getpid(), 11)", "import time; time.sleep(60)"
SECOND = "import os; len(images) == 1 or os.kill(os.getpid(), 11)"
EXITS, QUITS = "import os; os._exit(3)", "raise SystemExit"
KILLED, INTERRUPTED = "import os; os.kill(os.getpid(), 9)", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
HELPER = "import subprocess; subprocess.Popen(['sleep', '20'])"


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
    codes = {"a": WELL, "b": CRASHES, "c": RAISES, "d": EXITS, "e": QUITS, "f": SECOND, "g": WELL}
    found = trial.find_crashes({name: file(tmp_path, name, code) for name, code in codes.items()})
    killed = "its process was killed by SIGSEGV"
    assert found == {"b": killed, "d": "its process ended by itself, with status 3", "f": killed}


@pytest.mark.parametrize("code", [KILLED, INTERRUPTED])
def test_a_signal_from_outside_is_no_fault_of_the_file(tmp_path: Path, code: str) -> None:
    assert trial.find_crashes({"a": file(tmp_path, "a", code)}) == {}


def test_a_file_that_hangs_is_ended_and_slow_ones_before_it_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_S", 6.0)
    started = time.monotonic()
    codes = {"slow": "import time; time.sleep(2)", "also slow": "import time; time.sleep(2)", "hangs": HANGS}
    found = trial.find_crashes({name: file(tmp_path, name, code) for name, code in codes.items()})
    assert found == {"hangs": "it hangs, and was ended after 6 s"}
    assert time.monotonic() - started < 40


def test_a_process_that_a_runtime_leaves_behind_is_not_waited_for(tmp_path: Path) -> None:
    started = time.monotonic()
    assert trial.find_crashes({"a": file(tmp_path, "a", HELPER)}) == {}
    assert time.monotonic() - started < 15


def test_without_files_there_is_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial.subprocess, "Popen", None)
    assert trial.find_crashes({}) == {}
