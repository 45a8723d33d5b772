"""RAPL's files as the kernel lays them out, and zeus as it may be: absent, broken, without a counter, whole."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from compress.measurement import counters
from compress.measurement.counters import CounterError, find_counter


def domain(powercap: Path, folder: str, name: str, energy_uj: int, most: int = 1_000_000) -> Path:
    path = powercap / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{most}\n")
    return path


def test_packages_are_summed_without_their_parts(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 100)
    part = domain(tmp_path, "intel-rapl:0:0", "core", 100)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 500_000)
    whole = domain(tmp_path, "intel-rapl:2", "psys", 0)
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 100)
    found = find_counter(powercap=tmp_path)
    assert found.counter and found.detail == "RAPL package, 2 of them"
    start = found.counter.joules()
    for path, now in ((first, 250_100), (second, 900_000), (part, 200_000), (whole, 999_999)):
        (path / "energy_uj").write_text(str(now))
    assert found.counter.joules() - start == pytest.approx(0.65)


def test_a_counter_that_wraps_around_continues(tmp_path: Path) -> None:
    path = domain(tmp_path, "intel-rapl:0", "package-0", 900_000)
    counter = find_counter(powercap=tmp_path).counter
    assert counter
    start = counter.joules()
    (path / "energy_uj").write_text("100000")
    assert counter.joules() - start == pytest.approx(0.2)
    (path / "energy_uj").write_text("50000")
    assert counter.joules() - start == pytest.approx(1.15)


def test_a_machine_without_rapl_has_no_counter(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "psys", 1)
    for folder in (tmp_path, tmp_path / "absent"):
        found = find_counter(powercap=folder)
        assert found.counter is None and f"no RAPL in {folder}" in found.detail


def test_a_counter_that_only_root_may_read_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 1)
    hidden = domain(tmp_path, "intel-rapl:1", "package-1", 1) / "energy_uj"
    read = Path.read_text

    def refuse(path: Path, *arguments: Any, **options: Any) -> str:  # root, as which tests may run, can read all
        if path == hidden:
            raise PermissionError(13, "Permission denied")
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", refuse)
    found = find_counter(powercap=tmp_path)
    assert found.counter is None
    assert f"{hidden} is readable by root only: sudo chmod a+r" in found.detail


@pytest.mark.parametrize(("file", "words"), [("max_energy_range_uj", "No such file"), ("name", "No such file")])
def test_a_domain_without_a_file_is_reported(tmp_path: Path, file: str, words: str) -> None:
    (domain(tmp_path, "intel-rapl:0", "package-0", 1) / file).unlink()
    found = find_counter(powercap=tmp_path)
    assert found.counter is None and words in found.detail


def test_a_counter_that_disappears_is_an_error(tmp_path: Path) -> None:
    path = domain(tmp_path, "intel-rapl:0", "package-0", 1)
    counter = find_counter(powercap=tmp_path).counter
    assert counter
    (path / "energy_uj").write_text("")
    with pytest.raises(CounterError, match="is not a number"):
        counter.joules()


class Gpus:
    def __init__(self, *millijoules: float, counts: bool = True) -> None:
        self.readings, self.counts = iter(millijoules), counts

    def supports_get_total_energy_consumption(self, index: int) -> bool:
        return self.counts

    def get_total_energy_consumption(self, index: int) -> float:
        return next(self.readings)


def as_zeus(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    package, device = ModuleType("zeus"), ModuleType("zeus.device")
    vars(device).update(functions)
    monkeypatch.setitem(sys.modules, "zeus", package)
    monkeypatch.setitem(sys.modules, "zeus.device", device)


def test_a_gpu_has_its_own_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    as_zeus(monkeypatch, get_gpus=lambda: Gpus(1000, 2500))
    found = find_counter("cuda", 1)
    assert found.counter and found.detail == "GPU counter of GPU 1"
    assert found.counter.joules() == 2.5  # the first reading was to see that there is one
    with pytest.raises(CounterError, match="GPU counter cannot be read: StopIteration"):
        found.counter.joules()


def test_a_missing_or_broken_zeus_becomes_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise RuntimeError("NVML unavailable.\nmore")

    def lacks() -> Any:
        raise ModuleNotFoundError("No module named 'amdsmi'", name="amdsmi")

    as_zeus(monkeypatch, get_gpus=fail)
    assert find_counter("cuda").detail == "zeus finds no counter: NVML unavailable."
    as_zeus(monkeypatch, get_gpus=lacks)
    assert find_counter("cuda").detail == "zeus is broken: No module named 'amdsmi'"
    as_zeus(monkeypatch, get_gpus=lambda: Gpus(counts=False))
    assert "since Volta" in find_counter("cuda").detail
    as_zeus(monkeypatch)  # another package of this name
    assert find_counter("cuda").counter is None
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    monkeypatch.setattr(counters.importlib, "import_module", _absent)
    assert find_counter("cuda").detail == f"needs zeus: {counters.ADD}"


def _absent(name: str) -> Any:
    raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize(
    ("total", "name", "joules"), [(5000.0, "Jetson board", 5.0), (None, "Jetson CPU and GPU rails", 3.0)]
)
def test_a_jetson_is_read_from_its_rails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, total: float | None, name: str, joules: float
) -> None:
    reading = SimpleNamespace(total_energy_mj=total, cpu_energy_mj=1000.0, gpu_energy_mj=2000.0)
    as_zeus(monkeypatch, get_soc=lambda: SimpleNamespace(get_total_energy_consumption=lambda: reading))
    assert find_counter(powercap=tmp_path).counter is None  # zeus is not asked on other machines
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    found = find_counter(powercap=tmp_path)
    assert found.counter and found.detail == name and found.counter.joules() == joules
    vars(reading).update(total_energy_mj=None, cpu_energy_mj=None, gpu_energy_mj=None)
    assert "of a Jetson: the board has no power rails" in find_counter(powercap=tmp_path).detail
