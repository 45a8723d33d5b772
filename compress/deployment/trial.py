"""Run files once in a process of their own: a runtime that crashes would take the process of the run with it.

    python -m compress.deployment.trial FOLDER

loads and runs the files of `FOLDER/request.json` one after the other. `FOLDER/current` names the one that is tried, and
is gone at the end.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from compress.deployment.memory import child_environment, run_on_zeros
from compress.utils.processes import killed_by

REQUEST, CURRENT = "request.json", "current"
TIMEOUT_S = 600.0  # of each file; some runtimes compile for minutes
POLL_S = 0.05
BATCHES = (1, 17)  # some files have a network for each of several batch sizes
NOT_A_CRASH = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
"""Signals from outside: of the user, of a scheduler, or of a system that is short of memory."""


def find_crashes(files: Mapping[str, tuple[str, Path]]) -> dict[str, str]:
    """Return, by name, how the files end that crash or hang; other failures are ignored, the evaluation reports them.

    Args:
        files: Runtime and path of each file, by name; `preprocess.json` is beside it.
    """
    left, found = dict(files), dict[str, str]()
    while left and (crash := _first_crash(left)):
        name, end = crash
        found[name] = end
        del left[name]
    return found


def _first_crash(files: Mapping[str, tuple[str, Path]]) -> tuple[str, str] | None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / REQUEST).write_text(json.dumps({name: [runtime, str(path)] for name, (runtime, path) in files.items()}))
        process = subprocess.Popen(
            [sys.executable, "-m", "compress.deployment.trial", folder],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=child_environment(),
        )
        try:
            end = _wait(process, work / CURRENT)
        finally:
            process.kill()
            process.wait()
        name = _current(work / CURRENT)
        return (name, end) if end and name in files else None


def _wait(process: subprocess.Popen[bytes], current: Path) -> str:
    """Wait for the end of a process, and say how it ended; empty where that says nothing of the file it was at."""
    name, since = "", time.monotonic()
    while (status := process.poll()) is None:
        if (now := _current(current)) != name:
            name, since = now, time.monotonic()
        if time.monotonic() - since > TIMEOUT_S:
            return f"it hangs, and was ended after {TIMEOUT_S:.0f} s"
        time.sleep(POLL_S)
    if -status in NOT_A_CRASH:
        return ""
    return killed_by(status) or f"its process ended by itself, with status {status}"


def _current(file: Path) -> str:
    try:
        return file.read_text()
    except FileNotFoundError:
        return ""


def main() -> None:
    """Run the files of a request in this process."""
    from compress.plugins import load_installed

    load_installed()
    work = Path(sys.argv[1])
    for name, (runtime, path) in json.loads((work / REQUEST).read_text()).items():
        (work / CURRENT).write_text(name)
        with suppress(Exception, SystemExit):
            run_on_zeros(runtime, Path(path), BATCHES)
    (work / CURRENT).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
