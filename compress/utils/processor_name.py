"""Name of this machine's processor, or of the board or chip where it has no name of its own; its instruction sets."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

DEVICE_TREE = Path("/proc/device-tree/model")
CPU_INFO = Path("/proc/cpuinfo")
COMMANDS: tuple[Sequence[str], ...] = (
    ("getprop", "ro.soc.manufacturer"),
    ("getprop", "ro.soc.model"),
    ("getprop", "ro.product.model"),
    ("sysctl", "-n", "machdep.cpu.brand_string"),
)
"""Android's chip and model, and macOS's processor; other systems lack the commands."""


INSTRUCTIONS = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)
"""Sets of x86 and ARM by which kernels of convolutions and linears are chosen, as Linux names them."""


def processor_name() -> str:
    """Return the name of the processor (x86, macOS), the board (Raspberry Pi, Jetson) or the chip (Android).

    Processors of ARM have no name that the system knows: only the boards and chips that they are part of do.
    """
    return _board() or _cpu_info() or _asked() or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...] | None:
    """Return those of `INSTRUCTIONS` that the processor has; None where the system is not Linux.

    Virtual machines of one processor name differ in them.
    """
    lines = _lines()
    flags = next((line.split(":", 1)[1].split() for line in lines if line.startswith(("flags", "Features"))), None)
    return None if flags is None else tuple(name for name in INSTRUCTIONS if name in flags)


def _board() -> str:
    try:
        return DEVICE_TREE.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _cpu_info() -> str:
    return next((line.split(":", 1)[1].strip() for line in _lines() if line.startswith("model name")), "")


def _lines() -> list[str]:
    try:
        return CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return []


def _asked() -> str:
    answers = []
    for command in COMMANDS:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0 and done.stdout.strip():
            answers.append(done.stdout.strip())
    return " ".join(dict.fromkeys(answers))
