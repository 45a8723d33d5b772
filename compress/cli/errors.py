"""How the command line fails: one line on stderr per error, and an exit status."""

from __future__ import annotations

import errno
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

NO_FILE_SYSTEM_SUPPORT = (errno.ENODEV, errno.ENOLCK)
WHOLE_PACKAGE = (
    *("PIL", "filelock", "fsspec", "jinja2", "lightning", "matplotlib", "numpy", "open_clip", "pydantic"),
    *("pydantic_core", "rich", "safetensors", "timm", "torch", "torch_pruning", "torchao", "torchvision", "yaml"),
)
"""Packages that come with this one, but may be missing where it was installed without them to run artifacts."""

NEEDS_ALL = (
    "this verb needs the whole package, and {} is missing: pip install compress-model "
    "(bench, evaluate and predict need only a runtime, numpy, pillow and typer)"
)
NO_THREADS = (
    "the system starts no further thread; raise the limit of processes (`ulimit -u`) or of memory, or end other "
    "processes, and {}"
)
RESUMING = ("run", "work", "sweep")
"""Verbs that go on with what they had made before they were interrupted."""


def report_error(error: Exception) -> int:
    """Print an error on stderr, one line per problem, and return the exit status."""
    from compress.utils.errors import CompressError
    from compress.utils.machine_faults import is_disk_full, is_out_of_memory, is_out_of_threads

    if isinstance(error, CompressError):
        message, status = str(error), error.exit_status
    elif is_disk_full(error):
        message, status = f"disk is full; free some space and {_again()}", 1
    elif is_out_of_memory(error):
        message, status = f"not enough memory; lower the batch size and {_again()}", 1
    elif is_out_of_threads(error):
        message, status = NO_THREADS.format(_again()), 1
    elif isinstance(error, OSError) and error.errno in NO_FILE_SYSTEM_SUPPORT and not error.filename:
        message, status = f"{error.strerror}: files cannot be locked or mapped; put runs and data on a local disk", 1
    elif isinstance(error, ModuleNotFoundError) and _package(error) in WHOLE_PACKAGE:
        message, status = NEEDS_ALL.format(_package(error)), 1
    elif isinstance(error, OSError) and error.filename:
        message, status = f"{error.filename}: {error.strerror}", 1
    else:
        message, status = f"unexpected {type(error).__name__}: {error} (rerun with --debug for the traceback)", 1
    print("\n".join(f"error: {line}" for line in message.splitlines()), file=sys.stderr)
    return status


def raise_on_signals() -> list[int]:
    """Raise `KeyboardInterrupt` on SIGTERM and SIGHUP too; the returned list collects those that have arrived.

    Ignored ones stay ignored: `nohup` starts what is to outlive its terminal with SIGHUP ignored.
    """
    received: list[int] = []

    def interrupt(arrived: int, _: object) -> None:
        received.append(arrived)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, interrupt)
    return received


def exit_interrupted(received: list[int]) -> NoReturn:
    """Exit as a shell expects after SIGTERM (143), SIGHUP (129) or Ctrl-C (130)."""
    with suppress(OSError):  # of a terminal that is gone
        print(f"interrupted; {_again()}" if _verb() in RESUMING else "interrupted", file=sys.stderr)
    sys.exit(128 + (received[0] if received else signal.SIGINT))


def _verb() -> str:
    """Return the verb of this call; empty where there is none."""
    return next((word for word in sys.argv[1:] if not word.startswith("-")), "")


def _again() -> str:
    return "rerun the same command" + (" to resume" if _verb() in RESUMING else "")


def _package(error: ModuleNotFoundError) -> str:
    return (error.name or "").partition(".")[0]
