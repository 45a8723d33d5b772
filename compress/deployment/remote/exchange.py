"""What goes to a process and what comes from it, within limits of time: either way may block for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from threading import Event, Thread

SILENCE_S = 90.0  # without a byte sent or received; the other side gives a sign of life several times as often
CLEANING_S = 10.0
POLL_S, CHUNK = 0.2, 1 << 16


class Overdue(Exception):
    """The process has ended too late, or given no sign of life; the message says which."""


class Exchange:
    """An exchange with a process, of unbuffered pipes and a session of its own."""

    def __init__(self, process: subprocess.Popen[bytes], parts: Iterable[bytes]) -> None:
        """Start to send `parts` and to receive."""
        self._process, self._parts, self._output = process, parts, bytearray()
        self._stopped, self._moved = Event(), time.monotonic()
        self._sent: float | None = None  # when all was
        self._sender, self._receiver = (Thread(target=each, daemon=True) for each in (self._send, self._receive))
        self._sender.start()
        self._receiver.start()

    def output(self, limit_s: float) -> bytes:
        """Wait for the end of the process, and return its output.

        Args:
            limit_s: Seconds from when all is sent.

        Raises:
            Overdue: it takes longer, or nothing has been sent or received for `SILENCE_S`.
        """
        while True:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(POLL_S)
                self._receiver.join(CLEANING_S)
                return bytes(self._output)
            now, silence = time.monotonic(), min(SILENCE_S, limit_s)
            if self._sent is not None and now - self._sent > limit_s:
                raise Overdue(f"no result after {_duration(limit_s)}")
            if now - self._moved > silence:
                raise Overdue(f"no sign of life for {_duration(silence)}")

    def end(self) -> None:
        """Close the connection, on which the other side cleans up, and wait for that."""
        assert self._process.stdin and self._process.stdout
        self._stopped.set()
        self._sender.join(CLEANING_S)
        if self._sender.is_alive():
            self._kill()
            self._sender.join(CLEANING_S)
        if not self._sender.is_alive():  # its file must not be closed while it is written to
            self._process.stdin.close()
        try:
            self._process.wait(CLEANING_S)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()
        self._receiver.join(CLEANING_S)
        if not self._receiver.is_alive():
            self._process.stdout.close()

    def _send(self) -> None:
        assert self._process.stdin
        with suppress(OSError):  # it has ended; why is on its stderr or in its answer
            for part in self._parts:
                for start in range(0, len(part), CHUNK):
                    if self._stopped.is_set():
                        return
                    _write(self._process.stdin.fileno(), part[start : start + CHUNK])
                    self._moved = time.monotonic()
        self._sent = self._moved = time.monotonic()

    def _receive(self) -> None:
        assert self._process.stdout
        with suppress(OSError):
            while part := os.read(self._process.stdout.fileno(), CHUNK):
                self._output += part
                self._moved = time.monotonic()

    def _kill(self) -> None:
        with suppress(OSError):  # it has ended
            os.killpg(self._process.pid, signal.SIGKILL)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.0f} h" if seconds >= 3600 else f"{seconds:.0f} s"
