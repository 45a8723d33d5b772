"""CPU quota of this process's container, read from control groups of version 1 or 2.

Cpusets need no code here: the system takes them into the affinity of the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class _Mount(NamedTuple):
    """A mounted hierarchy of control groups with the CPU controller."""

    point: Path  # where it is mounted
    root: str  # group that the mount point shows; in a container often its own
    version: int  # 1 or 2


def cpu_quota(system: Path = Path("/")) -> float | None:
    """Return the CPU time that the process may use, in cores; None without a limit.

    Limits of parent groups hold too, so the smallest one counts. A container does not always see its parents, and may
    be given a path that only its host has: groups that do not exist here are passed over.

    Args:
        system: Root of the file system; tests have one of their own.
    """
    with suppress(OSError, ValueError):
        groups = dict(_groups((system / "proc/self/cgroup").read_text()))
        mounts = _mounts((system / "proc/self/mountinfo").read_text())
        quotas = [quota for mount in mounts for quota in _quotas(mount, groups.get(mount.version, "/"), system)]
        return min(quotas, default=None)
    return None


def _groups(text: str) -> Iterator[tuple[int, str]]:
    """Yield the process's group by version, from `ID:CONTROLLERS:PATH` lines; version 2 names no controllers."""
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield 2, path
        elif "cpu" in controllers.split(","):
            yield 1, path


def _mounts(text: str) -> Iterator[_Mount]:
    """Yield the hierarchies that limit CPU time; the fields of a line are in proc_pid_mountinfo(5)."""
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup2":
            yield _Mount(Path(point), root, 2)
        elif kind == "cgroup" and "cpu" in options.split(","):
            yield _Mount(Path(point), root, 1)


def _quotas(mount: _Mount, group: str, system: Path) -> Iterator[float]:
    """Yield the limits of a group and its parents."""
    point = system / mount.point.relative_to("/")
    below = Path(group)
    with suppress(ValueError):  # the path is one of the host, or of another branch
        below = below.relative_to(mount.root)
    below = Path(*(part for part in below.parts if part not in ("/", "..")))
    for folder in (point / below, *(point / parent for parent in below.parents if below.parts)):
        quota = _read(folder, mount.version)
        if quota is not None:
            yield quota


def _read(folder: Path, version: int) -> float | None:
    """Return the limit of one group: microseconds of CPU time per period over the period."""
    with suppress(OSError, ValueError, ZeroDivisionError):
        if version == 2:
            allowed, period = (folder / "cpu.max").read_text().split()
        else:
            allowed, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        quota = int(allowed) / int(period)  # "max" is no number: no limit in version 2
        return quota if quota > 0 else None  # -1 is no limit in version 1
    return None
