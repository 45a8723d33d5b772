"""Talking to Python on another machine through `ssh` or `adb`: one connection for everything.

The system's own programs are used, so the user's configuration, keys, agents and jump hosts work as they do at the
prompt. Nothing waits for a password: a connection that needs one fails.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from compress.deployment.remote import bootstrap, exchange
from compress.deployment.remote.exchange import Exchange, Overdue
from compress.utils.errors import CompressError, printable
from compress.utils.hosts import Host

SSH_OPTIONS = (
    *("-T", "-x", "-a"),
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=15"),
    *("-o", "ServerAliveCountMax=4"),
    *("-o", "ClearAllForwardings=yes"),
    *("-o", "RemoteCommand=none"),
    *("-o", "LogLevel=ERROR"),
)
ENVIRONMENT = {"SSH_ASKPASS_REQUIRE": "never"}
"""The ssh that leads to a jump host is not given `BatchMode`, and would open a window to ask for a password."""
LOADER = "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"
"""Runs the source that follows on stdin. It has no character that any login shell would change within quotes."""

INSTALL = {"ssh": "install OpenSSH's client", "adb": "install Android's platform tools"}
MOBILE_TEMPORARY = "/data/local/tmp"
SSH_FAILED, NOT_EXECUTABLE, NOT_FOUND = 255, 126, 127
LONGEST = 300
AGAIN = "try again; if it happens again, run the benchmark on that machine itself"
BEATS = 6  # signs of life in the time after which a machine counts as dead


class Limit(NamedTuple):
    """Time that an answer may take, and what to do where it takes longer."""

    seconds: float
    remedy: str


def ask(
    host: Host, module: str, packages: tuple[str, ...], archive: IO[bytes], size: int, limit: Limit
) -> Mapping[str, Any]:
    """Send an archive to another machine, run a module of it there, and return its answer.

    Whatever happens, nothing of it stays there: what runs there ends and removes its folder when this side goes.

    Args:
        host: The machine.
        module: Module to run in the folder of the archive; it writes `answer.json`.
        packages: Packages that must be installed there.
        archive: The archive, from its start.
        size: Its size in bytes.
        limit: Time that the answer may take once everything is sent; what runs there is then ended.

    Raises:
        CompressError: the machine cannot be reached, has no such Python, or gave no answer, or none in time.
    """
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command_line(host),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
                env={**os.environ, **ENVIRONMENT},
                start_new_session=True,  # Ctrl-C must not end it before the other side has cleaned up
            )
        except OSError as error:
            raise CompressError(f"{host}: {host.command} cannot be started ({error.strerror})") from error
        beat_s = exchange.SILENCE_S / BEATS
        request = {"size": size, "module": module, "packages": packages, "beat_s": beat_s}
        talk = Exchange(process, _parts(request, archive))
        try:
            output = talk.output(limit.seconds)
        except Overdue as error:
            raise CompressError(f"{host}: {error}; `{_trial(host)}` must answer; if it does, {limit.remedy}") from error
        finally:
            talk.end()
        stderr.seek(0)
        errors = stderr.read().decode(errors="replace")
        return _answer(host, output.decode(errors="replace"), process.returncode, errors)


def command_line(host: Host) -> list[str]:
    """Return the command that starts Python on another machine.

    Raises:
        CompressError: `ssh` or `adb` is not installed.
    """
    program = shutil.which(host.command)
    if program is None:
        raise CompressError(f"{host}: {host.command} was not found; {INSTALL[host.command]}")
    python = f"~/{shlex.quote(host.python[2:])}" if host.python.startswith("~/") else shlex.quote(host.python)
    start = f"{python} -c {shlex.quote(LOADER)}"
    if host.command == "adb":
        return [program, "-s", host.name, "shell", "-T", f"TMPDIR={MOBILE_TEMPORARY} {start}"]
    port = ["-p", str(host.port)] if host.port else []
    return [program, *SSH_OPTIONS, *port, "--", host.name, start]


def _parts(request: Mapping[str, Any], archive: IO[bytes]) -> Iterator[bytes]:
    source = Path(bootstrap.__file__).read_bytes()
    yield b"%d\n" % len(source) + source + json.dumps(request).encode() + b"\n"
    while part := archive.read(1 << 20):
        yield part


def _trial(host: Host, command: str = "true") -> str:
    """Return a call that shows whether a machine can be reached and runs a command."""
    if host.command == "adb":
        return f"adb -s {host.name} shell {command}"
    return f"ssh {f'-p {host.port} ' if host.port else ''}{host.name} {command}"


def _answer(host: Host, output: str, status: int, stderr: str) -> Mapping[str, Any]:
    """Find the answer in the output, which may start with what a login shell prints."""
    for line in reversed(output.splitlines()):
        if line.startswith(bootstrap.MARK):
            return _parsed(host, line[len(bootstrap.MARK) :])
    lines = [line.strip() for line in f"{output}\n{stderr}".splitlines() if line.strip() not in ("", bootstrap.ALIVE)]
    last = printable(lines[-1])[:LONGEST] if lines else f"{host.command} exited with {status}"
    if status in (NOT_FOUND, NOT_EXECUTABLE):
        form = "/PATH/TO/PYTHON"
        raise CompressError(f"{host}: no Python at {host.python} ({last}); add its path to the address, as {form}")
    if status == SSH_FAILED and host.command == "ssh":
        raise CompressError(f"{host}: {last}; `{_trial(host)}` must work without a password")
    remedy = f"`{_trial(host, f'{host.python} --version')}` must work"
    if host.command == "adb":
        remedy += ", and `adb devices` must list it as `device`; one that is unauthorized asks on its screen"
    raise CompressError(f"{host}: no result: {last}; {remedy}")


def _parsed(host: Host, text: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        return answer
    raise CompressError(f"{host}: the answer is damaged: {printable(text)[:LONGEST]!r}; {AGAIN}")
