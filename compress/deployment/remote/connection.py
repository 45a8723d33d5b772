"""Talking to Python on another machine through `ssh`, `adb` or Ray: one connection for everything.

The system's own programs are used, so the user's configuration, keys, agents and jump hosts work as they do at the
prompt. Nothing waits for a password: a connection that needs one fails.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from compress.deployment.remote import bootstrap, exchange
from compress.deployment.remote.exchange import Exchange, Overdue
from compress.utils.errors import CompressError, first_line, printable
from compress.utils.hosts import Host
from compress.utils.ray_cluster import QUIET, connected, living_nodes, require_ray

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
LOADER = "import sys;sys.path=[p for p in sys.path if p];i=sys.stdin.buffer;exec(i.read(int(i.readline())))"
"""Runs the source that follows on stdin, and imports nothing from the folder that it is in.

It has no character that any login shell would change within quotes.
"""

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
    request = {"size": size, "module": module, "packages": packages, "beat_s": exchange.SILENCE_S / BEATS}
    try:
        if host.command == "ray":
            return _answer(host, *converse_on_node(host, list(_parts(request, archive)), limit.seconds))
        return _answer(host, *converse(command_line(host), _parts(request, archive), limit.seconds))
    except OSError as error:
        raise CompressError(f"{host}: {host.command} cannot be started ({error.strerror})") from error
    except Overdue as error:
        raise CompressError(f"{host}: {error}; `{_trial(host)}` must answer; if it does, {limit.remedy}") from error


def converse(command: Sequence[str], parts: Iterable[bytes], limit_s: float) -> tuple[str, int, str]:
    """Start a program, send it everything, and return its output, its exit status and what it wrote to stderr.

    Raises:
        OSError: it cannot be started.
        Overdue: it took longer than the limit from when everything was sent.
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            bufsize=0,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,  # Ctrl-C must not end it before the other side has cleaned up
        )
        talk = Exchange(process, parts)
        try:
            output = talk.output(limit_s)
        finally:
            talk.end()
        stderr.seek(0)
        return output.decode(errors="replace"), process.returncode, stderr.read().decode(errors="replace")


def converse_on_node(host: Host, parts: list[bytes], limit_s: float) -> tuple[str, int, str]:
    """Do the same on the node of a Ray cluster that offers the resource of `host`, when nothing else is timed there.

    The interpreter is that of the node's Ray unless the address names one.

    Raises:
        CompressError: no node offers the resource, or the node was lost.
    """
    require_ray()
    import ray

    with connected():
        nodes = [node for node in living_nodes() if node["Resources"].get(host.name, 0) >= 1]
        if len(nodes) > 1:
            raise CompressError(f"{host}: {len(nodes)} nodes of the Ray cluster offer {host.name!r}; name each its own")
        if not nodes:
            join = f"""ray start --address HOST:PORT --num-cpus 0 --resources '{{"{host.name}": 1}}'"""
            raise CompressError(f"{host}: no node of the Ray cluster offers {host.name!r}; join it by `{join}`")
        taken = {name: 1.0 for name in (host.name, QUIET) if all(name in node["Resources"] for node in nodes)}
        task = ray.remote(_converse_here).options(num_cpus=0, resources=taken, max_retries=0)
        try:
            found: tuple[str, int, str] = ray.get(task.remote(host.python, parts, limit_s))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)  # what the task raised
            if isinstance(cause, OSError | Overdue):
                raise cause from error
            raise CompressError(f"{host}: {first_line(error)}; {AGAIN}") from error
    return found


def _converse_here(python: str, parts: list[bytes], limit_s: float) -> tuple[str, int, str]:
    python = str(Path(python).expanduser()) if python.startswith("~/") else python
    return converse([python or sys.executable, "-c", LOADER], parts, limit_s)


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
    if host.command != "ssh":
        return f"adb -s {host.name} shell {command}" if host.command == "adb" else "ray status"
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
