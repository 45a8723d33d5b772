"""Addresses of other machines to measure on: `ssh://[USER@]HOST[:PORT][/PYTHON]` and `adb:SERIAL[/PYTHON]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from compress.utils.errors import UsageError

FORMS = "ssh://[USER@]HOST[:PORT][/PYTHON] or adb:SERIAL[/PYTHON]"
PYTHON = "python3"
_SSH = re.compile(r"(?P<name>(?:[^@/:\s]+@)?(?:\[[^\[\]\s]+\]|[^@/:\s\[\]]+))(?::(?P<port>\d+))?(?:/(?P<path>.*))?")
_NAME = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._:-]+(?:%[A-Za-z0-9._-]+)?")
_ADB = re.compile(r"(?P<name>[^/\s]+)(?:/(?P<path>.*))?")


@dataclass(frozen=True)
class Host:
    """A machine that a command reaches: `ssh`, with the user's own configuration, or `adb`.

    Attributes:
        address: As it was written, for messages and results.
        command: Program that reaches it.
        name: For ssh, `[USER@]HOST`, where HOST may be an alias of the user's configuration; for adb, the serial.
        port: Port of ssh; None for that of the configuration.
        python: Interpreter there: a path, a path below the home folder (`~/...`), or a command.
    """

    address: str
    command: Literal["ssh", "adb"]
    name: str
    port: int | None
    python: str

    def __str__(self) -> str:
        return self.address


def parse_host(address: str) -> Host:
    """Parse the address of a machine.

    Raises:
        UsageError: it is not one. Names that start with `-` are refused, since programs take them for options, those
            with characters of a shell, since ssh gives them to the `ProxyCommand` and `Match exec` of a configuration,
            and passwords, which would be seen in lists of processes.
    """
    scheme, _, rest = address.partition(":")
    ssh = scheme == "ssh" and rest.startswith("//")
    match = _SSH.fullmatch(rest[2:]) if ssh else _ADB.fullmatch(rest) if scheme == "adb" else None
    if ssh and match is None and re.match(r"//[^/@]*:[^/@]*@", rest):
        raise UsageError(f"host {address!r}: passwords are not taken; use a key or an agent, and leave it out")
    if match is None or not address.isprintable():
        raise UsageError(f"host {address!r} is not {FORMS}")
    name, port = match["name"], match["port"] if ssh else None
    if name.endswith("]"):  # an address of version 6, whose zone is written with %25
        name = unquote(name.replace("[", "").replace("]", ""))
    if name.startswith("-") or "@-" in name:
        raise UsageError(f"host {address!r}: a name must not start with '-'")
    if not _NAME.fullmatch(name) or ("%" in name and ":" not in name):
        taken = "letters, digits and . - _ :"
        raise UsageError(f"host {address!r}: a name may have {taken}; use an alias of ~/.ssh/config for another")
    if port is not None and not 0 < int(port) < 65536:
        raise UsageError(f"host {address!r}: the port must be from 1 to 65535")
    return Host(address, "ssh" if ssh else "adb", name, None if port is None else int(port), _python(match))


def _python(match: re.Match[str]) -> str:
    """Return the interpreter: one word is a command, `~/...` below the home folder, anything else an absolute path."""
    path = unquote(match["path"] or "")
    if not path:
        return PYTHON
    return path if "/" not in path or path.startswith("~/") else f"/{path}"
