"""Errors that are the machine's fault and no recipe's: a full disk, a lack of memory."""

from __future__ import annotations

import errno

DISK_FULL = ("No space left on device", "os error 28", "file write failed", "requested and 0 written")
OUT_OF_MEMORY = (
    "not enough memory",
    "out of memory",
    "allocate memory",
    "bad_alloc",
    "bad allocation",
    "could not create a primitive",  # oneDNN
    "ALLOC_FAILED",  # cuBLAS and cuDNN
    "can't start new thread",
)
"""How libraries word a full disk and a lack of memory when they replace the system's error by one of their own."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that the disk, or the user's quota on it, is full."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or _mentions(error, DISK_FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or of a GPU, is lacking."""
    return isinstance(error, MemoryError) or _mentions(error, OUT_OF_MEMORY)


def is_machine_fault(error: BaseException) -> bool:
    """Return whether an error is of the system and says nothing of the network or the recipe."""
    return isinstance(error, OSError) or is_disk_full(error) or is_out_of_memory(error)


def _mentions(error: BaseException, phrases: tuple[str, ...]) -> bool:
    return any(phrase in str(error) for phrase in phrases)
