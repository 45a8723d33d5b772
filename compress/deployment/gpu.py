"""The NVIDIA GPU that a runtime's files are compiled for and run on: the first one that PyTorch finds."""

from __future__ import annotations

import ctypes

DEVICE = "cuda"
DRIVER = "libcuda.so.1"


def lacking() -> list[str]:
    """Name the GPU where PyTorch finds none; it is not imported where there is no driver."""
    try:
        ctypes.CDLL(DRIVER)
    except OSError:
        return ["NVIDIA GPU"]
    import torch

    return [] if torch.cuda.is_available() else ["NVIDIA GPU that PyTorch finds"]


def kind() -> list[str]:
    """Return the name and the compute capability of the GPU, which compiled files are for; `none` without one."""
    if lacking():
        return ["none"]
    import torch

    major, minor = torch.cuda.get_device_capability(DEVICE)
    return [torch.cuda.get_device_name(DEVICE), f"{major}.{minor}"]
