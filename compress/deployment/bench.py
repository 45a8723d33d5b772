"""Artifacts side by side: latency in turns, throughput, load time, peak memory and size."""

from __future__ import annotations

import importlib
import os
import platform
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.deployment.artifact import Artifact, find_artifact, load_artifact
from compress.deployment.export import artifact_bytes
from compress.deployment.mlperf import drive, require_loadgen
from compress.deployment.preprocess import PREPROCESS
from compress.deployment.runtimes import find_runtime, require_engine, thread_count
from compress.measurement.latency import fastest, measure_interleaved, summary
from compress.measurement.memory import peak_memory
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError, UsageError
from compress.utils.system import processor, version_of

MAX_BATCH = 1024
AUTO = "auto"
DRIVERS = ("turns", "mlperf")
Record = dict[str, Any]


def bench(
    paths: Sequence[Path],
    runtime: str | None = None,
    batches: Sequence[int] = (1, 16),
    rounds: int = 30,
    threads: int | None = None,
    driver: str = "turns",
    seconds: float = 10,
) -> Record:
    """Time artifacts in interleaved rounds. The images are noise: a network takes as long for any.

    Args:
        paths: Files or folders of artifacts; the same one may be named twice, to see how far two timings differ.
        runtime: Name of the runtime of all of them, or `auto`: each in every runtime that is here and reads it, and a
            folder of formats, `artifacts/VARIANT/`, stands for all its files. Without it, each file's own.
        batches: Images of a run.
        rounds: Turns of each artifact and batch.
        threads: Threads of every runtime; without them, all cores.
        driver: `mlperf` for its load generator, one artifact after another, in the place of turns.
        seconds: Shortest time of a test of that generator.

    Returns:
        `{environment, rounds, artifacts: [{number, path, runtime, bytes, load_s, peak_memory_bytes}],
        latency: [{number, batch, p50_ms, p90_ms, p99_ms, images_per_s, ratio_to_first, ratio_ci95}],
        fastest: [{batch, number, tied}]}`; `tied` are the numbers of those that are as fast within the interval.
        `load_s` is from the file to the first answer, with the runtime imported before; `peak_memory_bytes` is of a
        process of its own that runs the largest batch; a ratio above 1 is faster than the first artifact. Of MLPerf's
        generator there are `seconds` and `mlperf` (see `compress.deployment.mlperf`) and no turns.

    Raises:
        UsageError: the driver is unknown, or as `load_artifact` does.
        CompressError: the generator is not installed, or as `load_artifact` does.
    """
    if driver not in DRIVERS:
        raise UsageError(f"--driver is {' or '.join(DRIVERS)}, not {driver!r}")
    if driver == "mlperf":
        require_loadgen()
    count = thread_count(threads)
    chosen = [pair for path in paths for pair in (_everywhere(path) if runtime == AUTO else [(path, runtime)])]
    for path, name in chosen:  # what is wrong with the last one is said before minutes are spent on the first
        importlib.import_module(require_engine(find_artifact(path, name)[1]).ENGINE)
    loaded = [_load(path, name, count) for path, name in chosen]
    artifacts = [
        {
            "number": number,
            "path": str(artifact.path),
            "runtime": artifact.runtime,
            "bytes": artifact_bytes(artifact.path),
            "load_s": seconds,
            "peak_memory_bytes": peak_memory(artifact.path, artifact.runtime, max(batches), count),
        }
        for number, (artifact, seconds) in enumerate(loaded, 1)
    ]
    names = dict.fromkeys(artifact.runtime for artifact, _ in loaded)
    about: Record = {"environment": environment([*names], count), "artifacts": artifacts}
    if driver == "mlperf":
        found = drive([artifact for artifact, _ in loaded], max(batches), seconds)
        return {**about, "seconds": seconds, "mlperf": found}
    times = {batch: _times([artifact for artifact, _ in loaded], batch, rounds) for batch in batches}
    return {
        **about,
        "rounds": rounds,
        "latency": [row for batch, taken in times.items() for row in _latency(batch, taken)],
        "fastest": [_fastest(batch, taken) for batch, taken in times.items()],
    }


def environment(runtimes: Sequence[str], threads: int) -> Record:
    """What timings hold for: `{processor, cores, threads, platform, python, packages}`."""
    packages = [*(find_runtime(name).ENGINE for name in runtimes), "numpy"]
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version_of(name) for name in packages},
    }


def parse_batches(text: str) -> list[int]:
    """Batch sizes out of `1,16`, each once.

    Raises:
        UsageError: it is no list of whole numbers from 1 to 1024.
    """
    try:
        batches = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        batches = []
    if not batches or not all(0 < batch <= MAX_BATCH for batch in batches):
        raise UsageError(f"--batches takes whole numbers from 1 to {MAX_BATCH} with commas, not {text!r}")
    return batches


def _load(path: Path, runtime: str | None, threads: int) -> tuple[Artifact, float]:
    started = time.perf_counter()
    artifact = load_artifact(path, runtime, threads)
    return artifact, time.perf_counter() - started


def _everywhere(path: Path) -> list[tuple[Path, str | None]]:
    """The file at a path, or those of its formats, with every runtime that is here and reads it."""
    formats = sorted(path.glob(f"*/{PREPROCESS}")) if path.is_dir() and not (path / PREPROCESS).is_file() else []
    files = [find_artifact(where, None)[0] for where in ([file.parent for file in formats] or [path])]
    pairs = [(file, name) for file in files for name in RUNTIMES if file.name.endswith(find_runtime(name).READS)]
    found: list[tuple[Path, str | None]] = [(file, name) for file, name in pairs if _is_here(name)]
    return found or [(path, None)]


def _is_here(name: str) -> bool:
    try:
        require_engine(name)
    except CompressError:
        return False
    return True


def _fastest(batch: int, times: dict[str, list[float]]) -> Record:
    first, *tied = map(int, fastest(times))
    return {"batch": batch, "number": first, "tied": tied}


def _times(artifacts: Sequence[Artifact], batch: int, rounds: int) -> dict[str, list[float]]:
    candidates = {str(number): partial(a.run, _noise(a, batch)) for number, a in enumerate(artifacts, 1)}
    return measure_interleaved(candidates, rounds)


def _latency(batch: int, times: dict[str, list[float]]) -> list[Record]:
    rows = []
    for number, taken in enumerate(times.values(), 1):
        record = summary(taken, times["1"])
        rows.append(
            {
                "number": number,
                "batch": batch,
                "p50_ms": record["p50_ms"],
                "p90_ms": float(np.percentile(taken, 90)),
                "p99_ms": record["p99_ms"],
                "images_per_s": 1000 * batch / record["p50_ms"],
                "ratio_to_first": record["ratio_to_reference"],
                "ratio_ci95": record["ratio_ci95"],
            }
        )
    return rows


def _noise(artifact: Artifact, batch: int) -> np.ndarray[Any, Any]:
    side = artifact.preprocess.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    return artifact.preprocess.normalise(pixels)
