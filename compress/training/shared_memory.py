"""Shared memory, through which worker processes hand over batches; many containers have 64 MB of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from compress.utils.console import say
from compress.utils.errors import first_line

FOLDER = Path("/dev/shm")
PREFETCH = 2  # batches that a worker prepares ahead, as torch's loaders have it
IN_USE = 2  # further batches: one in a step, one on its way
SHARE = 0.8  # of the free space
LACKS = ("Bus error", "out of shared memory", "allocate shared memory")
"""How torch words a lack of it."""

_told = False


def workers_that_fit(workers: int, images: int, batch: int, image_bytes: int, world: int) -> int:
    """Return how many of the `workers` of a loader have space for their batches; the first time fewer do, this is said.

    Args:
        workers: Worker processes that are wanted.
        images: Images of the loader.
        batch: Images of a batch.
        image_bytes: Bytes of an image.
        world: Processes that have such a loader.
    """
    if not workers or not FOLDER.is_dir():  # other systems have no such limit
        return workers
    free = shutil.disk_usage(FOLDER).free

    def fits(count: int) -> bool:
        ahead = min(images, batch * (PREFETCH * count + IN_USE))
        return ahead * image_bytes <= SHARE * free / world

    fitting = next((count for count in range(workers, 0, -1) if fits(count)), 0)
    if fitting < workers:
        _say_fewer(fitting, workers, free)
    return fitting


def _say_fewer(fitting: int, workers: int, free: int) -> None:
    global _told
    if not _told:
        _told = True
        number = f"{fitting} of {workers} worker processes decode" if fitting else "no worker processes decode"
        has = f"{FOLDER} has {free / 1e6:.0f} MB free"
        say(f"  data: {number} batches, as {has}; `--shm-size 2g` gives a container more")


def worker_advice(error: RuntimeError) -> str | None:
    """Return what to change where a worker process has ended for lack of memory; None for another error."""
    text, fewer = str(error), "set `data.workers` to fewer or to 0, and rerun to resume"
    if any(word in text for word in LACKS):
        lacks = f"the batches of worker processes do not fit into {FOLDER}"
        return f"{lacks}; start the container with a larger `--shm-size`, or {fewer}"
    if text.startswith("DataLoader worker"):
        return f"{first_line(error).rstrip('.')}; it may lack memory: {fewer}"
    return None
