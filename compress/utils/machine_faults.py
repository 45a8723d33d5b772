"""Errors that are the machine's fault and no recipe's: a full disk, a lack of memory or threads."""

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
)
OUT_OF_THREADS = ("can't start new thread",)
"""How libraries word a full disk and a lack of memory or threads when they replace the system's error by their own."""
WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
"""Errors of the system that say that the code reads or writes in the wrong place; the machine works."""


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that the disk, or the user's quota on it, is full."""
    number = error.errno if isinstance(error, OSError) else None
    return number in (errno.ENOSPC, errno.EDQUOT) or _mentions(error, DISK_FULL)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory, of the machine or of a GPU, is lacking."""
    return isinstance(error, MemoryError) or _mentions(error, OUT_OF_MEMORY)


def is_out_of_threads(error: BaseException) -> bool:
    """Return whether an error says that the system starts no further thread."""
    return _mentions(error, OUT_OF_THREADS)


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error says that disk, memory or threads are lacking."""
    return is_disk_full(error) or is_out_of_memory(error) or is_out_of_threads(error)


def is_device_lost(error: BaseException) -> bool:
    """Return whether an error has left a GPU in a state in which all that follows in this process fails, too."""
    kinds = (kind.__name__ for kind in type(error).__mro__)
    return "AcceleratorError" in kinds or str(error).startswith("CUDA error")


def is_machine_fault(error: BaseException) -> bool:
    """Return whether an error is of the system and says nothing of the network or the recipe."""
    is_of_system = isinstance(error, OSError) and not isinstance(error, WRONG_PATH)
    return is_of_system or is_exhausted(error) or is_device_lost(error)


def _mentions(error: BaseException, phrases: tuple[str, ...]) -> bool:
    return any(phrase in str(error) for phrase in phrases)
