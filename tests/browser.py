"""Headless Chromium, driven over its DevTools protocol through two pipes: no driver and no package is needed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
PATIENCE = 120.0  # seconds that a command may take


def chromium() -> str | None:
    """Path of a Chromium; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One tab. `errors` has what the page wrote to the console as an error, or threw, since it was opened."""

    def __init__(self, commands: int, answers: int) -> None:
        self.commands, self.answers = commands, answers
        self.number, self.rest = 0, b""
        self.session: str | None = None
        self.errors: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command, and wait for its answer."""
        self.number += 1
        message: dict[str, Any] = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]  # type: ignore[no-any-return]
        raise TimeoutError(method)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            read = os.read(self.answers, 1 << 16)
            assert read, "Chromium has ended"
            self.rest += read
        text, _, self.rest = self.rest.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        entry = message.get("params", {})
        if message.get("method") == "Log.entryAdded" and entry["entry"]["level"] == "error":
            self.errors.append(entry["entry"]["text"])
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(str(entry["exceptionDetails"]))
        if message.get("method") == "Runtime.consoleAPICalled" and entry["type"] == "error":
            self.errors.append(str(entry["args"]))
        return message

    def open(self, page: Path, width: int = 1400, scheme: str = "light") -> None:
        """Load a page at a width in pixels and in a colour scheme."""
        self.errors.clear()
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + PATIENCE
        while self.value("document.readyState + location.href") != "complete" + page.as_uri():
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.02)

    def value(self, expression: str) -> Any:
        """Value of an expression in the page, as plain data."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """A key, pressed and let go as a person does: what has the focus gets it."""
        text = {"Enter": "\r", "Space": " "}.get(key, "")
        name = " " if key == "Space" else key
        common = {"key": name, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)


@contextlib.contextmanager
def started(path: str, profile: Path) -> Iterator[Browser]:
    """A Chromium that ends with the block."""
    theirs_in, commands = os.pipe()
    answers, theirs_out = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (theirs_in, theirs_out)]

    def place() -> None:
        for number, end in enumerate(high, 3):
            os.dup2(end, number)

    process = subprocess.Popen(
        [path, *FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"],
        close_fds=False,  # which closes 3 and 4; all other descriptors of Python's are not inherited anyway
        preexec_fn=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for end in (theirs_in, theirs_out, *high):
        os.close(end)
    try:
        browser = Browser(commands, answers)
        yield browser
        browser.session = None
        with contextlib.suppress(AssertionError, OSError):
            browser.call("Browser.close")
        process.wait(30)
    finally:
        process.kill()
        process.wait()
        os.close(commands)
        os.close(answers)
