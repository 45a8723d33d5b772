"""Talking to Python on another machine through `ssh` or `adb`: one connection for everything.

The system's own programs are used, so the user's configuration, keys, agents and jump hosts work as they do at the
prompt. Nothing waits for a password: a connection that needs one fails.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from compress.deployment.remote import bootstrap
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
LOADER = "import sys;i=sys.stdin.buffer;exec(i.read(int(i.readline())))"
"""Runs the source that follows on stdin. It has no character that any login shell would change within quotes."""

INSTALL = {"ssh": "install OpenSSH's client", "adb": "install Android's platform tools"}
MOBILE_TEMPORARY = "/data/local/tmp"
CLEANING_S = 10.0
SSH_FAILED, NOT_EXECUTABLE, NOT_FOUND = 255, 126, 127
LONGEST = 300


def ask(host: Host, module: str, packages: tuple[str, ...], archive: IO[bytes], size: int) -> Mapping[str, Any]:
    """Send an archive to another machine, run a module of it there, and return its answer.

    Whatever happens, nothing of it stays there: what runs there ends and removes its folder when this side goes.

    Args:
        host: The machine.
        module: Module to run in the folder of the archive; it writes `answer.json`.
        packages: Packages that must be installed there.
        archive: The archive, from its start.
        size: Its size in bytes.

    Raises:
        CompressError: the machine cannot be reached, has no such Python, or gave no answer.
    """
    with tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command_line(host),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C must not end it before the other side has cleaned up
            )
        except OSError as error:
            raise CompressError(f"{host}: {host.command} cannot be started ({error.strerror})") from error
        try:
            assert process.stdin and process.stdout
            request = {"size": size, "module": module, "packages": packages}
            with suppress(BrokenPipeError):  # it has ended; why is on its stderr or in its answer
                _send(process.stdin, request, archive)
            output = process.stdout.read()
            status = process.wait()
        finally:
            _end(process)
        stderr.seek(0)
        return _answer(host, output.decode(errors="replace"), status, stderr.read().decode(errors="replace"))


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


def _send(stream: IO[bytes], request: Mapping[str, Any], archive: IO[bytes]) -> None:
    source = Path(bootstrap.__file__).read_bytes()
    stream.write(b"%d\n" % len(source) + source + json.dumps(request).encode() + b"\n")
    shutil.copyfileobj(archive, stream, 1 << 20)
    stream.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the connection, on which the other side cleans up, and wait for that."""
    assert process.stdin and process.stdout
    with suppress(OSError):
        process.stdin.close()
    try:
        process.wait(CLEANING_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _answer(host: Host, output: str, status: int, stderr: str) -> Mapping[str, Any]:
    """Find the answer in the output, which may start with what a login shell prints."""
    for line in reversed(output.splitlines()):
        if line.startswith(bootstrap.MARK):
            answer: Mapping[str, Any] = json.loads(line[len(bootstrap.MARK) :])
            return answer
    lines = [line.strip() for line in f"{output}\n{stderr}".splitlines() if line.strip()]
    last = printable(lines[-1])[:LONGEST] if lines else f"{host.command} exited with {status}"
    if status in (NOT_FOUND, NOT_EXECUTABLE):
        form = "/PATH/TO/PYTHON"
        raise CompressError(f"{host}: no Python at {host.python} ({last}); add its path to the address, as {form}")
    if status == SSH_FAILED and host.command == "ssh":
        port = f"-p {host.port} " if host.port else ""
        raise CompressError(f"{host}: {last}; `ssh {port}{host.name} true` must work without a password")
    raise CompressError(f"{host}: no result: {last}")
