"""Hardware, packages and network of this machine. Imports nothing heavy."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from compress.utils.cpu_quota import cpu_quota
from compress.utils.processor_name import instruction_sets, processor_name

MAX_OPEN_FILES = 65_536
ALTERNATIVES = {
    "onnxruntime": ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-qnn"),
    "tensorrt": ("tensorrt-cu13", "tensorrt-cu12"),
}
"""Other distributions that install the same package."""


@cache
def version_of(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    for name in (package, *ALTERNATIVES.get(package, ())):
        with suppress(metadata.PackageNotFoundError):
            return metadata.version(name)
    return None


def user_cache() -> Path | None:
    """Return the user's cache, or None for a user without a home. It may not exist."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # others are ignored, by the specification
        return named
    with suppress(RuntimeError):
        return Path.home() / ".cache"
    return None


def cache_folder() -> Path | None:
    """Return the folder of this package in the user's cache, or None for a user without a home. It may not exist."""
    cache = user_cache()
    return cache / "compress-model" if cache else None


@cache
def processor() -> str:
    """Return the name of this machine's processor, or of the board or chip that it is part of; it is read once."""
    return processor_name()


@cache
def instructions() -> tuple[str, ...] | None:
    """Return the processor's instruction sets that kernels are chosen by, or None where unknown; they are read once."""
    return instruction_sets()


def kind_of_processor() -> list[str]:
    """Return what speeds and compiled files hold for: virtual machines of one processor name differ in instructions."""
    return [processor(), *(instructions() or ())]


@cache
def quota() -> float | None:
    """Return the CPU quota of this process's container in cores, or None; it is read once."""
    return cpu_quota()


def usable_cpus() -> frozenset[int]:
    """Return the numbers of the processor cores that this process may run on, whatever share of their time it has."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def cores() -> int:
    """Return the number of processor cores that this process can keep busy.

    These are the cores of its affinity (`taskset`, a cpuset), or if that is less, its container's CPU quota, rounded
    down: threads beyond the quota are stopped for a part of each period, which ruins timings.
    """
    limit = quota()
    count = len(usable_cpus())
    return count if limit is None else max(1, min(count, int(limit)))


def describe_cores() -> str:
    """Describe `cores` in words: `2 cores`, or `2 of 8 cores, CPU quota 2.5`."""
    count, limit = cores(), quota()
    total = max(len(usable_cpus()), os.cpu_count() or 1)
    text = f"{count} of {total} cores" if count < total else f"{count} core{'s' * (count != 1)}"
    return text if limit is None else f"{text}, CPU quota {limit:g}"


def thread_count(threads: int | None) -> int:
    """Return the number of threads to compute with: `threads`, or as many as there are `cores`."""
    return threads or cores()


def limit_threads() -> None:
    """Let libraries start no more threads than there are `cores`; they do not look at CPU quotas themselves.

    A number that the user has set in `OMP_NUM_THREADS` stays. Processes that this one starts inherit the limit.
    """
    if "OMP_NUM_THREADS" in os.environ or cores() >= len(usable_cpus()):
        return
    os.environ["OMP_NUM_THREADS"] = str(cores())
    torch = sys.modules.get("torch")  # where it is loaded already, it has read the variable
    if torch is not None and torch.get_num_threads() > cores():
        torch.set_num_threads(cores())


def allow_open_files() -> None:
    """Raise the limit of open files to what the system allows: each mapped file of embeddings is one."""
    import resource  # which Windows lacks

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS allows less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def free_bytes(folder: Path) -> int:
    """Return the free space of the disk that a folder, which need not exist yet, is or will be on."""
    return shutil.disk_usage(next(path for path in (folder, *folder.absolute().parents) if path.is_dir())).free


def has_gpu() -> bool:
    """Return whether torch finds a GPU. Loads torch."""
    import torch

    return bool(torch.cuda.is_available())


def gpu_ids() -> list[str]:
    """Identify the GPUs without torch: as the system lists NVIDIA's and AMD's, and which of them are visible."""
    folders = (Path("/proc/driver/nvidia/gpus"), Path("/sys/class/kfd/kfd/topology/nodes"))
    names = [path.name for folder in folders if folder.is_dir() for path in sorted(folder.iterdir())]
    return [*names, *(os.environ.get(f"{vendor}_VISIBLE_DEVICES", "") for vendor in ("CUDA", "HIP"))]


def hub_is_reachable(timeout_s: float = 2.0) -> bool:
    """Return whether the model hub can be reached and nothing forbids it, so that weights can be downloaded."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return False
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=timeout_s):
            return True
    except urllib.error.HTTPError:  # an answer, even if it is a refusal
        return True
    except (OSError, ValueError):
        return False


def is_in_hub_cache(repository: str, file: str) -> bool:
    """Return whether a file of the model hub is in the local cache."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(repository, file), str)
