"""Addresses of other machines to measure on: by ssh, by adb, or as a resource of a Ray cluster; see `FORMS`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import unquote

from compress.utils.errors import UsageError

FORMS = "ssh://[USER@]HOST[:PORT][/PYTHON], adb:SERIAL[/PYTHON] or ray:RESOURCE[/PYTHON]"
PYTHON = "python3"
RAY_OWN = ("CPU", "GPU", "TPU", "memory", "object_store_memory")  # resources that Ray itself gives to nodes
_SSH = re.compile(r"(?P<name>(?:[^@/:\s]+@)?(?:\[[^\[\]\s]+\]|[^@/:\s\[\]]+))(?::(?P<port>\d+))?(?:/(?P<path>.*))?")
_NAME = re.compile(r"(?:[A-Za-z0-9._-]+@)?[A-Za-z0-9._:-]+(?:%[A-Za-z0-9._-]+)?")
_NAMED = re.compile(r"(?P<name>[^/\s]+)(?:/(?P<path>.*))?")


@dataclass(frozen=True)
class Host:
    """A machine that a command reaches: `ssh`, with the user's own configuration, `adb`, or `ray`.

    Attributes:
        address: As it was written, for messages and results.
        command: Program that reaches it.
        name: For ssh, `[USER@]HOST`, where HOST may be an alias of the user's configuration; for adb, the serial; for
            ray, the resource that only this node of the cluster offers.
        port: Port of ssh; None for that of the configuration.
        python: Interpreter there: a path, a path below the home folder (`~/...`), or a command; empty for the one that
            Ray runs with.
    """

    address: str
    command: Literal["ssh", "adb", "ray"]
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
    match = _SSH.fullmatch(rest[2:]) if ssh else _NAMED.fullmatch(rest) if scheme in ("adb", "ray") else None
    if ssh and match is None and re.match(r"//[^/@]*:[^/@]*@", rest):
        raise UsageError(f"host {address!r}: passwords are not taken; use a key or an agent, and leave it out")
    if match is None or not address.isprintable():
        raise UsageError(f"host {address!r} is not {FORMS}")
    name, port = match["name"], match["port"] if ssh else None
    if scheme == "ray" and name in RAY_OWN:
        raise UsageError(f"host {address!r}: every node of a cluster offers {name}; name a resource of one node")
    if name.endswith("]"):  # an address of version 6, whose zone is written with %25
        name = unquote(name.replace("[", "").replace("]", ""))
    if name.startswith("-") or "@-" in name:
        raise UsageError(f"host {address!r}: a name must not start with '-'")
    if not _NAME.fullmatch(name) or ("%" in name and ":" not in name):
        taken = "letters, digits and . - _ :"
        raise UsageError(f"host {address!r}: a name may have {taken}; use an alias of ~/.ssh/config for another")
    if port is not None and not 0 < int(port) < 65536:
        raise UsageError(f"host {address!r}: the port must be from 1 to 65535")
    command = cast('Literal["ssh", "adb", "ray"]', scheme)
    python = _python(match, default="" if scheme == "ray" else PYTHON)
    return Host(address, command, name, None if port is None else int(port), python)


def _python(match: re.Match[str], *, default: str) -> str:
    """Return the interpreter: one word is a command, `~/...` below the home folder, anything else an absolute path."""
    path = unquote(match["path"] or "")
    if not path:
        return default
    return path if "/" not in path or path.startswith("~/") else f"/{path}"
