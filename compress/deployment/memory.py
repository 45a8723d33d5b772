"""Peak memory of a process of its own that does nothing but load an artifact and run it.

    python -m compress.deployment.memory RUNTIME PATH BATCH THREADS

prints `{"peak_bytes": ...}`; 0 threads are all cores. It imports numpy and the runtime, and torch only where the
runtime is part of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from compress.utils.processes import SAFE_PATH

TIMEOUT_S = 300
RUNS = 3


class MemoryRecord(TypedDict):
    """Largest resident memory in bytes; None where unknown."""

    peak_bytes: int | None


def peak_memory(path: Path, runtime: str, batch: int, threads: int | None = None) -> int | None:
    """Measure the largest resident memory, in bytes, of a fresh process that loads an artifact and runs it.

    It includes the interpreter and the runtime's own code, as in deployment. None where the process fails, or the
    system does not expose it.
    """
    command = [sys.executable, "-m", "compress.deployment.memory", runtime, str(path), str(batch), str(threads or 0)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True, env=child_environment()
        )
        record: MemoryRecord = json.loads(done.stdout.strip().split("\n")[-1])
        return record["peak_bytes"] or None
    except (subprocess.SubprocessError, OSError, ValueError, KeyError):
        return None


def child_environment() -> dict[str, str]:
    """Return the environment in which a fresh process finds this package, and not the user's files in place of others.

    Plugins find the modules beside them all the same (`compress.plugins.load`).
    """
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, **SAFE_PATH, "PYTHONPATH": path}


def main() -> None:
    """Print the memory that running an artifact takes in this process."""
    from compress.plugins import load_installed

    load_installed()
    runtime, path, batch, threads = sys.argv[1:]
    print(json.dumps(measure(runtime, Path(path), int(batch), int(threads))))


def measure(name: str, path: Path, batch: int, threads: int) -> MemoryRecord:
    """Load an artifact in this process and run it on `threads` threads, or on all cores if that is 0."""
    run_on_zeros(name, path, [batch] * RUNS, threads)
    return MemoryRecord(peak_bytes=_peak_bytes())


def run_on_zeros(name: str, path: Path, batches: Sequence[int], threads: int = 0) -> None:
    """Load an artifact in this process and run it on batches of zeros; 0 threads are all cores."""
    import numpy as np

    from compress.deployment.runtimes import find_runtime

    side = json.loads((path.parent / "preprocess.json").read_text(encoding="utf-8"))["resolution"]
    run = find_runtime(name).load(path, threads or None)
    for batch in batches:
        run(np.zeros((batch, 3, side, side), np.float32))


def _peak_bytes() -> int | None:
    """Largest resident memory so far. Linux's own figure is read first: `ru_maxrss` is inherited from the parent."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
