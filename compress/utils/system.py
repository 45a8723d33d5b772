"""What this machine is and which packages it has. Imports nothing heavy."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

INSTEAD = {"onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn")}
"""Distributions that bring the same package for other devices."""


@cache
def version_of(package: str) -> str | None:
    """Version of an installed package, or None."""
    for name in (package, *INSTEAD.get(package, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None


@cache
def processor() -> str:
    """Name of this machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def cores() -> int:
    """Number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def thread_count(threads: int | None) -> int:
    """Number of threads to compute with: `threads`, by default as many as `cores`."""
    return threads or cores()


def has_gpu() -> bool:
    """Whether torch finds a GPU. Loads torch."""
    import torch

    return bool(torch.cuda.is_available())


def graphics() -> list[str]:
    """What tells, without torch, whether GPUs are the ones of before: how the system lists NVIDIA's and AMD's."""
    places = (Path("/proc/driver/nvidia/gpus"), Path("/sys/class/kfd/kfd/topology/nodes"))
    listed = [path.name for place in places if place.is_dir() for path in sorted(place.iterdir())]
    return [*listed, *(os.environ.get(f"{vendor}_VISIBLE_DEVICES", "") for vendor in ("CUDA", "HIP"))]


def hub_answers(seconds: float = 3.0) -> bool:
    """Whether published weights can be fetched: the model hub answers, and nothing forbids to ask it."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=seconds):
            return True
    except urllib.error.HTTPError:  # it answers, if only to say no
        return True
    except (OSError, ValueError):
        return False


def in_hub_cache(repository: str, file: str) -> bool:
    """Whether a file of the model hub has been fetched before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)
