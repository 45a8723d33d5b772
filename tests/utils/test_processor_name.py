from __future__ import annotations

import os
from pathlib import Path

import pytest

from compress.utils import processor_name


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without any of the files and commands."""
    monkeypatch.setattr(processor_name, "DEVICE_TREE", tmp_path / "model")
    monkeypatch.setattr(processor_name, "CPU_INFO", tmp_path / "cpuinfo")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")


def write_command(folder: Path, name: str, answers: dict[str, str]) -> None:
    cases = "".join(f"{word}) echo '{answer}';; " for word, answer in answers.items())
    (folder / name).write_text(f'#!/bin/sh\nfor last; do :; done\ncase "$last" in {cases}esac\n')
    (folder / name).chmod(0o755)
    assert os.access(folder / name, os.X_OK)


def test_boards_have_names_where_arm_processors_have_none(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU implementer\t: 0x41\nmodel name\t: ARMv7 rev 4 (v7l)\n")
    assert processor_name.processor_name() == "ARMv7 rev 4 (v7l)"
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert processor_name.processor_name() == "Raspberry Pi 5 Model B Rev 1.0"


def test_phones_name_their_chip_and_model(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("CPU part\t: 0xd46\n")
    names = {"ro.soc.manufacturer": "QTI", "ro.soc.model": "SM8550", "ro.product.model": "SM-S911B"}
    write_command(tmp_path, "getprop", names)
    assert processor_name.processor_name() == "QTI SM8550 SM-S911B"


def test_macs_name_their_processor(tmp_path: Path) -> None:
    write_command(tmp_path, "sysctl", {"machdep.cpu.brand_string": "Apple M4"})
    assert processor_name.processor_name() == "Apple M4"


def test_the_architecture_is_what_is_left() -> None:
    assert processor_name.processor_name() == "riscv64"


def test_instruction_sets_are_those_that_kernels_are_chosen_by(tmp_path: Path) -> None:
    assert processor_name.instruction_sets() is None, "there is no such file"
    (tmp_path / "cpuinfo").write_text("model name\t: EPYC\nflags\t\t: fpu avx avx2 amx_tile avx512_vnni avx512f\n")
    assert processor_name.instruction_sets() == ("avx2", "avx512f", "avx512_vnni")
    (tmp_path / "cpuinfo").write_text("Features\t: fp asimd asimddp i8mm\n")
    assert processor_name.instruction_sets() == ("asimddp", "i8mm")
