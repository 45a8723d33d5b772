"""Name of this machine's processor, or of the board or chip where its processor has no name of its own."""

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


def processor_name() -> str:
    """Return the name of the processor (x86, macOS), the board (Raspberry Pi, Jetson) or the chip (Android).

    Processors of ARM have no name that the system knows: only the boards and chips that they are part of do.
    """
    return _board() or _cpu_info() or _asked() or platform.processor() or platform.machine()


def _board() -> str:
    try:
        return DEVICE_TREE.read_text(errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _cpu_info() -> str:
    try:
        lines = CPU_INFO.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


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
