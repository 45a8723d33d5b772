"""Worker processes and the scripts that start them."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
import sys
from pathlib import Path

from compress.utils.errors import UsageError

INITIAL_NAMESPACE = 0xEFFFFFFC  # of process numbers: the machine's own, as Linux fixes it
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Environment of a Python process that does not look for modules in the working directory, which is the user's."""

GUARD = 'put `if __name__ == "__main__":` before it'


def host_name() -> str:
    """Return the name of this machine, and in a container that numbers its processes itself their namespace too.

    Where two processes have the same, they mean the same process by a number. Holders of leases are named alike.
    """
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:  # not Linux
        namespace = INITIAL_NAMESPACE
    return socket.gethostname() + ("" if namespace == INITIAL_NAMESPACE else f"?pidns-{namespace:x}")


def boot_id() -> str:
    """Return what tells this run of this machine from all others, of the same name too; empty where unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux
        return ""


def owner_name(host: str, process: int) -> str:
    """Return `<host>.<pid>`, as it may stand in the name of a file on any system."""
    return f"{re.sub('[^A-Za-z0-9-]', '_', host)}.{process}"


def is_alive(process: int) -> bool:
    """Return whether a process of this machine, by its number, is running or stopped."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def killed_by(status: int) -> str:
    """Say which signal ended a process, by its exit status of Python; empty where none did."""
    if status >= 0:
        return ""
    name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
    return f"its process was killed by {name}"


def require_main_guard() -> None:
    """Refuse to start workers from a script that each of them would run again from its first line.

    Where processes are spawned (macOS; Linux from Python 3.14 on), a worker imports the script. Forked workers do not,
    nor do those of notebooks and of `python -m`.

    Raises:
        UsageError: the script has no `__main__` guard.
    """
    method = multiprocessing.get_start_method(allow_none=True) or multiprocessing.get_all_start_methods()[0]
    main = sys.modules["__main__"]
    script = getattr(main, "__file__", None)
    if method == "fork" or script is None or getattr(main, "__spec__", None) is not None:
        return
    if "__main__" not in Path(script).read_text(encoding="utf-8", errors="replace"):
        raise UsageError(f"{script}: workers import this script and would start the run again; {GUARD}")


def end_if_imported_by_worker() -> None:
    """End a worker that has imported its script and reached a run there, with one line on stderr."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        sys.exit(f"error: a worker process imported this script and reached the run again; {GUARD}")
