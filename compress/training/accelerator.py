"""How Lightning is told the device of a fit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy


class XPUAccelerator(Accelerator):
    """Intel GPUs by `torch.xpu`, which Lightning has no accelerator for; one device."""

    def setup_device(self, device: torch.device) -> None:
        torch.xpu.set_device(device)

    def get_device_stats(self, device: torch.device | str | int) -> dict[str, Any]:
        return {}

    def teardown(self) -> None:
        torch.xpu.empty_cache()

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device("xpu", 0)]

    @staticmethod
    def auto_device_count() -> int:
        return torch.xpu.device_count()

    @staticmethod
    def is_available() -> bool:
        return torch.xpu.is_available()

    @staticmethod
    def name() -> str:
        return "xpu"


def lightning_device(device: torch.device) -> dict[str, Any]:
    """Return the arguments of Lightning's Trainer that select the kind of a device."""
    if device.type == "xpu":
        strategy = SingleDeviceStrategy(device, accelerator=XPUAccelerator())
        return {"accelerator": "auto", "strategy": strategy, "devices": 1}
    return {"accelerator": device.type}


@contextmanager
def reproducible(wanted: bool) -> Iterator[None]:
    """Let torch refuse algorithms that differ from run to run, if `wanted`, and restore the setting on exit."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it cuBLAS may differ from run to run
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
