"""Energy counters: RAPL of processors, and through zeus, counters of GPUs and power rails of Jetson boards.

RAPL is read here, because zeus (0.16) adds `psys`, which includes the packages, to them, and detects a wrap-around in a
helper process up to a second late. GPUs and Jetson are read through zeus, which is imported on first use; without it,
NVIDIA's GPUs are read through NVML (`nvidia-ml-py`, which many installations of CUDA have).
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

POWERCAP = Path("/sys/class/powercap")
ADD = "pip install 'compress-model[energy]'"


class CounterError(Exception):
    """A counter cannot be read; the message says why."""


class Counter(Protocol):
    """An energy counter."""

    @property
    def name(self) -> str:
        """Kind of counter, and the device that it covers."""

    @property
    def covers_gpus(self) -> bool:
        """Whether it covers what GPUs of the machine draw."""

    def joules(self) -> float:
        """Read the energy in joules since a fixed moment.

        Raises:
            CounterError: the counter cannot be read.
        """


@dataclass(frozen=True)
class CounterLookup:
    """A counter with its description, or None with the reason."""

    counter: Counter | None
    detail: str


def find_counter(device: Literal["cpu", "cuda"] = "cpu", index: int = 0, powercap: Path = POWERCAP) -> CounterLookup:
    """Find the energy counter of a device; a missing or broken one is reported, not raised.

    Args:
        device: `cpu` for RAPL's packages, or on a Jetson the rails of its board; `cuda` for one GPU.
        index: Index of the GPU, as torch counts them.
        powercap: The kernel's folder of power domains.
    """
    if device == "cuda":
        found = _through_zeus(lambda: _gpu(index))
        return found if found.counter else nvml_counter(index) or found
    rapl = _rapl(powercap)
    if rapl.counter is None and platform.machine() == "aarch64":
        jetson = _through_zeus(_jetson)
        return jetson if jetson.counter else CounterLookup(None, f"{rapl.detail}; of a Jetson: {jetson.detail}")
    return rapl


class Rapl:
    """Energy of all processor packages without memory, from RAPL's domains `package-N` (of Intel and AMD).

    The counter of a domain wraps around at its range, after minutes at the earliest; readings must be more frequent.
    """

    name = "RAPL package"
    covers_gpus = False

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


def _rapl(powercap: Path) -> CounterLookup:
    try:
        packages = list(_packages(powercap))
        if not packages:
            return CounterLookup(None, f"no RAPL in {powercap}: virtual machines, containers and other systems lack it")
        return CounterLookup(Rapl(packages), f"{Rapl.name}, {len(packages)} of them")
    except CounterError as error:
        return CounterLookup(None, str(error))


def _packages(powercap: Path) -> Iterator[Path]:
    """Folders of the packages. Their parts (`core`, `dram`), and `psys`, which includes them, would count twice."""
    for folder in sorted(powercap.glob("intel-rapl:*")):
        try:
            name = (folder / "name").read_text()
        except OSError as error:
            raise CounterError(f"{folder / 'name'} cannot be read: {error.strerror}") from error
        if name.startswith("package"):
            yield folder


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except PermissionError as error:
        raise CounterError(
            f"{path} is readable by root only: sudo chmod a+r {path.parent.parent}/*/energy_uj"
        ) from error
    except OSError as error:
        raise CounterError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CounterError(f"{path} is not a number") from error


@dataclass(frozen=True)
class ZeusCounter:
    """A counter in millijoules, of zeus or NVML."""

    name: str
    millijoules: Callable[[], float]
    covers_gpus: bool = True

    def joules(self) -> float:
        try:
            return float(self.millijoules()) / 1000
        except Exception as error:  # zeus and the libraries below it raise many kinds
            raise CounterError(f"{self.name} cannot be read: {_line(error)}") from error


def _through_zeus(find: Callable[[], CounterLookup]) -> CounterLookup:
    """Call `find`; a missing or broken zeus becomes a reason."""
    try:
        lookup = find()
        if lookup.counter:
            lookup.counter.joules()
        return lookup
    except ModuleNotFoundError as error:
        absent = (error.name or "").split(".")[0] == "zeus"
        return CounterLookup(None, f"needs zeus: {ADD}" if absent else f"zeus is broken: {error}")
    except CounterError as error:
        return CounterLookup(None, str(error))
    except Exception as error:
        return CounterLookup(None, f"zeus finds no counter: {_line(error)}")


def _gpu(index: int) -> CounterLookup:
    gpus: Any = importlib.import_module("zeus.device").get_gpus()
    if not gpus.supports_get_total_energy_consumption(index):
        return CounterLookup(None, f"GPU {index} has no energy counter: NVIDIA's have one since Volta")
    name = "GPU counter"
    return CounterLookup(ZeusCounter(name, lambda: gpus.get_total_energy_consumption(index)), f"{name} of GPU {index}")


def nvml_counter(index: int) -> CounterLookup | None:
    """Return the counter of an NVIDIA GPU by NVML, None without the library, the GPU or its counter."""
    try:
        nvml, handle = nvml_device(index)
        counter = ZeusCounter("NVML counter", lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle))
        counter.joules()
    except Exception:  # the types of the library are not public; zeus has said why there is no counter
        return None
    return CounterLookup(counter, f"NVML counter of GPU {index}")


def nvml_device(index: int) -> tuple[Any, Any]:
    """Return NVML, and its handle of the GPU that torch counts as `index`, whatever `CUDA_VISIBLE_DEVICES` is.

    Raises:
        ModuleNotFoundError: `nvidia-ml-py` is missing.
    """
    nvml: Any = importlib.import_module("pynvml")
    nvml.nvmlInit()
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return nvml, nvml.nvmlDeviceGetHandleByIndex(index)
    return nvml, nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}")


def _jetson() -> CounterLookup:
    board: Any = importlib.import_module("zeus.device").get_soc()
    first = board.get_total_energy_consumption()
    total, parts = "total_energy_mj", ("cpu_energy_mj", "gpu_energy_mj")
    rails = [rail for rail in parts if getattr(first, rail, None) is not None]
    if getattr(first, total, None) is not None:
        name, rails = "Jetson board", [total]
    elif rails:
        name = f"Jetson {' and '.join(rail[:3].upper() for rail in rails)} rails"
    else:
        return CounterLookup(None, "the board has no power rails")

    def millijoules() -> float:
        reading = board.get_total_energy_consumption()
        return sum(float(getattr(reading, rail)) for rail in rails)

    return CounterLookup(ZeusCounter(name, millijoules), name)


def _line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
