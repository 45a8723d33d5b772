"""Batch sizes that fit into the memory of a GPU, found by halving."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from compress.utils.console import say
from compress.utils.machine_faults import is_out_of_memory

R = TypeVar("R")


class BatchSize:
    """A batch size that is halved whenever a GPU has too little memory for it, and stays so.

    On a CPU it is never halved: the bits of a result depend on the batch size, and on a CPU the same recipe always
    gives the same bits.

    Attributes:
        images: Images per batch; what is computed next begins with it.
    """

    def __init__(self, images: int, label: str, device: torch.device) -> None:
        """Begin with `images` per batch on `device`; `label` is what they are for, in the line of a halving."""
        self.images, self.label, self.device = images, label, device

    def fit(self, work: Callable[[int], R]) -> R:
        """Return `work(images)`; where the memory of a GPU runs out, it is called again with half as many images.

        Raises:
            RuntimeError, MemoryError: memory runs out on a CPU or with a single image, or for another reason.
        """
        while True:
            try:
                return work(self.images)
            except (RuntimeError, MemoryError) as error:
                if self.device.type == "cpu" or self.images == 1 or not is_out_of_memory(error):
                    raise
            # Outside of the handler: the traceback keeps the tensors of the attempt alive.
            self.images = (self.images + 1) // 2
            say(f"  {self.label}: out of memory; batches of {self.images} images from here on")
            free_memory()


def free_memory() -> None:
    """Return memory that nothing uses any more to the device."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
