"""Receive a benchmark on another machine, run it, answer and leave nothing behind.

The source of this file is sent to the other machine's Python and runs there first, so it imports nothing but the
standard library, and is written for Python 3.6 up to be able to say that a newer one is needed. On stdin it gets a line
of JSON (`size` of the archive, `module` to run, `beat_s`), then a tar archive. On stdout it writes `ALIVE` every
`beat_s` seconds, and at the end one line, `MARK` and JSON.

It ends early, and stops what it started, as soon as stdin ends: then the other side is gone.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

MARK = "compress-bench-answer:"
ALIVE = "compress-bench-alive"
LEAST = (3, 10)
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
TRIES = 20


class Limited:
    """The first `size` bytes of a stream, as a stream."""

    def __init__(self, stream: "BinaryIO", size: int) -> None:
        self.stream, self.left = stream, size

    def read(self, count: int) -> bytes:
        """Read `count` bytes, fewer at the end; leave if the other side has gone."""
        wanted = min(count, self.left)
        data = self.stream.read(wanted)
        if len(data) < wanted:
            raise SystemExit("the connection ended")
        self.left -= wanted
        return data


def obstacle(packages: "list[str]") -> "str | None":
    """Say why nothing can run here, or None."""
    where = sys.executable or "this Python"
    if sys.version_info < LEAST:
        found, least = (".".join(map(str, version[:2])) for version in (sys.version_info, LEAST))
        return f"{where} is Python {found}; name one of {least} or newer in the address"
    for package in packages:
        if importlib.util.find_spec(package) is None:
            return f"{package} is not installed for {where}: pip install {package}"
    return None


def serve(request: "dict[str, Any]", stream: "BinaryIO") -> "dict[str, Any]":
    """Unpack the archive into a fresh folder, run the module there, and return its answer."""
    folder, child = tempfile.mkdtemp(prefix="compress-bench-"), None
    try:
        limited = Limited(stream, request["size"])
        with tarfile.open(fileobj=limited, mode="r|") as archive:  # type: ignore[call-overload]
            archive.extractall(folder, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        while limited.left:  # the padding: what comes after the archive would be taken for the other side's end
            limited.read(limited.left)
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        with Path(folder, "stderr").open("w+b") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-m", request["module"]],
                cwd=folder,
                env=dict(os.environ, PYTHONPATH=path, TMPDIR=folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # so that it can be stopped with all processes that it starts
            )
            threading.Thread(target=stop_at_end, args=(stream, child), daemon=True).start()
            return answer_of(folder, child.wait(), stderr)
    finally:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        if child is not None:
            stop(child)
        remove(folder)


def answer_of(folder: str, status: int, stderr: "BinaryIO") -> "dict[str, Any]":
    """Return what the module has answered, or how it ended without an answer."""
    try:
        answer: dict[str, Any] = json.loads(Path(folder, "answer.json").read_text(encoding="utf-8"))
        return answer
    except (OSError, ValueError):
        stderr.seek(0)
        lines = stderr.read().decode("utf-8", "replace").strip().splitlines()
    ended = f"was killed by signal {-status}" if status < 0 else f"exited with {status}"
    return {"error": f"the benchmark {ended}{': ' + lines[-1] if lines else ''}"}


def stop_at_end(stream: "BinaryIO", child: "subprocess.Popen[bytes]") -> None:
    """Stop the benchmark when the stream ends; nothing more is sent on it."""
    stream.read(1)
    stop(child)


def stop(child: "subprocess.Popen[bytes]") -> None:
    """Kill a process and all that it has started."""
    with contextlib.suppress(OSError):  # they have ended
        os.killpg(child.pid, signal.SIGKILL)


def remove(folder: str) -> None:
    """Remove a folder; a process that was just killed may still have been writing to it."""
    for _ in range(TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        if not Path(folder).exists():
            return
        time.sleep(0.1)


def leave(number: int, frame: object) -> None:
    """End on a signal, by way of `finally`."""
    raise SystemExit(128 + number)


def give_signs(answered: "threading.Event", every: float) -> None:
    """Write a line from time to time until there is an answer, so that the other side knows that this machine lives."""
    with contextlib.suppress(OSError):  # the other side has gone
        while not answered.wait(every):
            os.write(1, f"\n{ALIVE}\n".encode())


def main(stream: "BinaryIO") -> None:
    """Answer one request."""
    for each in SIGNALS:
        signal.signal(each, leave)
    request = json.loads(stream.readline().decode("utf-8"))
    answered = threading.Event()
    signs = threading.Thread(target=give_signs, args=(answered, request["beat_s"]), daemon=True)
    signs.start()
    why = obstacle(request["packages"])
    try:
        answer = {"error": why} if why else serve(request, stream)
    except (OSError, tarfile.TarError) as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    answered.set()
    signs.join()
    sys.stdout.write(f"\n{MARK}{json.dumps(answer)}\n")
    sys.stdout.flush()
    os._exit(0)  # a thread still waits for the end of the stream


if __name__ == "__main__":
    main(sys.stdin.buffer)
