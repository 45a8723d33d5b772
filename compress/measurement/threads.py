"""Number of threads that PyTorch computes with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let PyTorch compute with `count` threads, then restore the number from before.

    PyTorch has one number of threads for everything that it runs in a process. It also decides the bits of sums, so it
    is restored even where the body has changed it again.
    """
    import torch

    before = torch.get_num_threads()
    if before != count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        if torch.get_num_threads() != before:
            torch.set_num_threads(before)
