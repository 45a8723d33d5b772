"""Counters of energy that a machine may have: RAPL of processors, and through zeus GPUs' own and Jetson's rails.

RAPL is read here, because zeus (0.16) counts `psys`, which holds the packages, beside them, and learns of a wrap-around
from a helper process up to a second after it. GPUs and Jetson are zeus's, which is imported only where it is asked.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

POWERCAP = Path("/sys/class/powercap")
ADD = "pip install 'compress-model[energy]'"


class NoReading(Exception):
    """A counter cannot be read; the message says why."""


class Counter(Protocol):
    """What counts energy."""

    @property
    def name(self) -> str:
        """What it is, and of what it counts the energy."""

    def joules(self) -> float:
        """Energy since some fixed moment, in joules; it only rises.

        Raises:
            NoReading: the counter cannot be read.
        """


@dataclass(frozen=True)
class Found:
    """A counter, or None; and what it is, or why there is none."""

    counter: Counter | None
    detail: str


def find_counter(device: Literal["cpu", "cuda"] = "cpu", index: int = 0, powercap: Path = POWERCAP) -> Found:
    """Find what counts the energy of work on a device; nothing that is broken or absent raises.

    Args:
        device: Where the work runs. `cpu` is RAPL's packages, or on a Jetson the rails of its board; `cuda` is one GPU.
        index: Of the GPU, as torch counts them.
        powercap: The kernel's folder of power domains.
    """
    if device == "cuda":
        return _through_zeus(lambda: _gpu(index))
    rapl = _rapl(powercap)
    if rapl.counter is None and platform.machine() == "aarch64":
        jetson = _through_zeus(_jetson)
        return jetson if jetson.counter else Found(None, f"{rapl.detail}; of a Jetson: {jetson.detail}")
    return rapl


class Rapl:
    """Energy of all processor packages, by RAPL's domains `package-N` (Intel's, and AMD's under the same name).

    Memory is not in it. A domain's counter starts again at 0 beyond its range, in minutes at the least: readings must
    not lie further apart than that.
    """

    name = "RAPL package"

    def __init__(self, packages: list[Path]) -> None:
        self._packages = packages
        self._ranges = [_number(folder / "max_energy_range_uj") for folder in packages]
        self._last = [_number(folder / "energy_uj") for folder in packages]
        self._total = 0

    def joules(self) -> float:
        for at, folder in enumerate(self._packages):
            now = _number(folder / "energy_uj")
            self._total += now - self._last[at] + (self._ranges[at] if now < self._last[at] else 0)
            self._last[at] = now
        return self._total / 1e6


def _rapl(powercap: Path) -> Found:
    try:
        packages = list(_packages(powercap))
        if not packages:
            return Found(None, f"no RAPL in {powercap}: virtual machines, containers and other systems have none")
        return Found(Rapl(packages), f"{Rapl.name}, {len(packages)} of them")
    except NoReading as error:
        return Found(None, str(error))


def _packages(powercap: Path) -> Iterator[Path]:
    """Folders of the packages. Their parts (`core`, `dram`) and `psys`, which holds them, would count twice."""
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text()
        except OSError as error:
            raise NoReading(f"{folder / 'name'} cannot be read: {error.strerror}") from error
        if name.startswith("package"):
            yield folder


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError as error:
        raise NoReading(f"{path} is readable for root only: sudo chmod a+r {path.parent.parent}/*/energy_uj") from error
    except OSError as error:
        raise NoReading(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NoReading(f"{path} holds no number") from error


@dataclass(frozen=True)
class ZeusCounter:
    """A counter of zeus, which gives millijoules."""

    name: str
    millijoules: Callable[[], float]

    def joules(self) -> float:
        try:
            return float(self.millijoules()) / 1000
        except Exception as error:  # zeus has errors of many kinds, and so have the libraries below it
            raise NoReading(f"{self.name} cannot be read: {_line(error)}") from error


def _through_zeus(find: Callable[[], Found]) -> Found:
    """What `find` finds; an installation of zeus that is absent or broken is no more than a reason."""
    try:
        found = find()
        if found.counter:
            found.counter.joules()
        return found
    except ModuleNotFoundError as error:
        absent = (error.name or "").split(".")[0] == "zeus"
        return Found(None, f"needs zeus: {ADD}" if absent else f"zeus is broken: {error}")
    except NoReading as error:
        return Found(None, str(error))
    except Exception as error:
        return Found(None, f"zeus finds none: {_line(error)}")


def _gpu(index: int) -> Found:
    gpus: Any = importlib.import_module("zeus.device").get_gpus()
    if not gpus.supports_get_total_energy_consumption(index):
        return Found(None, f"GPU {index} has no counter of its own: NVIDIA's have one since Volta")
    name = "GPU counter"
    return Found(ZeusCounter(name, lambda: gpus.get_total_energy_consumption(index)), f"{name} of GPU {index}")


def _jetson() -> Found:
    board: Any = importlib.import_module("zeus.device").get_soc()
    first = board.get_total_energy_consumption()
    total, parts = "total_energy_mj", ("cpu_energy_mj", "gpu_energy_mj")
    rails = [rail for rail in parts if getattr(first, rail, None) is not None]
    if getattr(first, total, None) is not None:
        name, rails = "Jetson board", [total]
    elif rails:
        name = f"Jetson {' and '.join(rail[:3].upper() for rail in rails)} rails"
    else:
        return Found(None, "the board shows no power rails")

    def millijoules() -> float:
        reading = board.get_total_energy_consumption()
        return sum(float(getattr(reading, rail)) for rail in rails)

    return Found(ZeusCounter(name, millijoules), name)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
