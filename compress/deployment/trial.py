"""Run files once in a process of their own: a runtime that crashes would take the process of the run with it.

    python -m compress.deployment.trial FOLDER

loads and runs the files of `FOLDER/request.json` one after the other, and notes in `FOLDER/current` which one it is at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from compress.deployment.memory import child_environment, measure
from compress.utils.processes import killed_by

REQUEST, CURRENT = "request.json", "current"
LONGEST_S = 600.0  # of all files together; a runtime that hangs is ended


def crashing(files: Mapping[str, tuple[str, Path]]) -> dict[str, str]:
    """Return why files cannot be run on one image, by name, of those that crash or hang; other failures are no matter.

    Args:
        files: Runtime and path of each file, by name; `preprocess.json` is beside it.
    """
    left, found = dict(files), dict[str, str]()
    while left and (crash := _first_crash(left)):
        name, reason = crash
        found[name] = reason
        del left[name]
    return found


def _first_crash(files: Mapping[str, tuple[str, Path]]) -> tuple[str, str] | None:
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / REQUEST).write_text(json.dumps({name: [runtime, str(path)] for name, (runtime, path) in files.items()}))
        command = [sys.executable, "-m", "compress.deployment.trial", folder]
        try:
            done = subprocess.run(command, capture_output=True, env=child_environment(), timeout=LONGEST_S)
            reason = killed_by(done.returncode)
        except subprocess.TimeoutExpired:
            reason = f"it hangs, and was ended after {LONGEST_S:.0f} s"
        current = work / CURRENT
        name = current.read_text() if current.is_file() else ""
        return (name, f"{files[name][0]} cannot run {name}: {reason}") if reason and name in files else None


def main() -> None:
    """Run the files of a request in this process."""
    from compress.plugins import load_installed

    load_installed()
    work = Path(sys.argv[1])
    for name, (runtime, path) in json.loads((work / REQUEST).read_text()).items():
        (work / CURRENT).write_text(name)
        with suppress(Exception):  # who runs it next meets it again, and says what it is
            measure(runtime, Path(path), 1, 0)


if __name__ == "__main__":
    main()
