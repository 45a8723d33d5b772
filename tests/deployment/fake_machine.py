"""Another machine: a folder, which programs that stand for `ssh` and `adb` lead to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

FAKE = """\
#!/bin/sh
for word in "$@"; do printf '%s\\n' "$word"; done > '{folder}/arguments'
for last; do :; done
echo 'Welcome to this machine!'
export HOME='{folder}' TMPDIR='{folder}/tmp'
exec sh -c "$(printf '%s' "$last" | sed 's|^TMPDIR=/data/local/tmp|TMPDIR={folder}/tmp|')"
"""
"""Runs the last argument in a shell, as sshd and adbd do, after a greeting as login shells print it."""


class Machine:
    """A machine with a home and a place for temporary files of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.delenv("PYTHONPATH", raising=False)
        for command in ("ssh", "adb"):
            self.install(command)

    def install(self, command: str, script: str = FAKE) -> None:
        """Let a program run a script."""
        program = self.folder / "bin" / command
        program.parent.mkdir(exist_ok=True)
        program.write_text(script.format(folder=self.folder))
        program.chmod(0o755)

    @property
    def arguments(self) -> list[str]:
        """Arguments of the last call of a program."""
        return (self.folder / "arguments").read_text().splitlines()


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until a condition holds, and fail if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
