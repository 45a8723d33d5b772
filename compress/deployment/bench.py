"""Benchmarking artifacts side by side: interleaved latency, throughput, load time, peak memory and size."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np

from compress.deployment.artifact import Artifact, find_artifact, load_artifact
from compress.deployment.export import artifact_bytes
from compress.deployment.memory import peak_memory
from compress.deployment.mlperf import MlperfRow, require_loadgen, run_loadgen
from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.runtime import Array
from compress.deployment.runtimes import find_runtime, require_engine
from compress.deployment.timing import ByBatch, Schedule, collect, file_candidate, time_together
from compress.efficiency.timing import fastest
from compress.measurement.latency import Timings, round_medians, summary
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError, UsageError
from compress.utils.system import cores, processor, quota, thread_count, version_of

MAX_BATCH = 1024
AUTO = "auto"
DRIVERS = ("turns", "mlperf")


class Machine(TypedDict):
    """The machine and versions that timings hold for; `packages` are versions by name, None where unknown."""

    processor: str
    cores: int
    cpu_quota: float | None
    threads: int
    platform: str
    python: str
    packages: dict[str, str | None]


class ArtifactRow(TypedDict):
    """One benchmarked artifact.

    `load_s` is the time from the file to its first output, with the runtime imported before. `peak_memory_bytes` is
    that of a process of its own that runs the largest batch; None where the system does not expose it.
    """

    number: int
    path: str
    runtime: str
    bytes: int
    load_s: float
    peak_memory_bytes: int | None


class LatencyRow(TypedDict):
    """Latency of one artifact at one batch size; a ratio above 1 is faster than the first artifact.

    `p90_ms` and `p99_ms` are of single timings, the latter None with fewer than 300. `split` is whether processes
    differ by more than their rounds explain.
    """

    number: int
    batch: int
    p50_ms: float
    p90_ms: float
    p99_ms: float | None
    timings: int
    process_p50_ms: list[float]
    autocorrelation: float | None
    split: bool
    images_per_s: float
    ratio_to_first: float
    ratio_ci95: list[float] | None


class FastestRow(TypedDict):
    """The fastest artifact at one batch size; those in `tied` are as fast within the interval."""

    batch: int
    number: int
    tied: list[int]


class BenchRecord(TypedDict):
    """Result of a benchmark, whatever its driver."""

    environment: Machine
    artifacts: list[ArtifactRow]


class InterleavedRecord(BenchRecord):
    """Result of interleaved timing rounds."""

    rounds: int
    processes: int
    latency: list[LatencyRow]
    fastest: list[FastestRow]


class MlperfRecord(BenchRecord):
    """Result of MLPerf's load generator."""

    seconds: float
    mlperf: list[MlperfRow]


def bench(
    paths: Sequence[Path],
    runtime: str | None = None,
    batches: Sequence[int] = (1, 16),
    rounds: int = 30,
    threads: int | None = None,
    driver: str = "turns",
    seconds: float = 10,
    processes: int = 3,
) -> InterleavedRecord | MlperfRecord:
    """Time artifacts side by side. The images are noise: the time does not depend on their content.

    Args:
        paths: Files or folders of artifacts; naming one twice shows how far two timings differ.
        runtime: Name of the runtime for all of them, or `auto`: each in every runtime that is installed and reads it,
            and a folder of formats, `artifacts/VARIANT/`, stands for all its files. By default each file's own.
        batches: Batch sizes.
        rounds: Timing rounds of each artifact and batch size, shared out among the processes.
        threads: Number of threads of every runtime; by default all cores.
        driver: `turns` for interleaved rounds, `mlperf` for MLPerf's load generator, one artifact after another.
        seconds: Minimum duration of a test of that generator.
        processes: Fresh processes in which all artifacts are timed; 1 for this process.

    Raises:
        UsageError: the driver is unknown, or as `load_artifact` does.
        CompressError: the generator is not installed, or as `load_artifact` does.
    """
    if driver not in DRIVERS:
        raise UsageError(f"--driver must be {' or '.join(DRIVERS)}, not {driver!r}")
    if driver == "mlperf":
        require_loadgen()
    count = thread_count(threads)
    chosen = [pair for path in paths for pair in (_all_readers(path) if runtime == AUTO else [(path, runtime)])]
    for path, name in chosen:  # a mistake in the last one is reported before minutes are spent on the first
        require_engine(find_artifact(path, name)[1])
    loaded = [_load(path, name, count) for path, name in chosen]
    artifacts = [artifact for artifact, _ in loaded]
    rows = [_row(number, *each, max(batches), count) for number, each in enumerate(loaded, 1)]
    machine = environment([*dict.fromkeys(artifact.runtime for artifact in artifacts)], count)
    if driver == "mlperf":
        measured = run_loadgen(artifacts, max(batches), seconds)
        return MlperfRecord(environment=machine, artifacts=rows, seconds=seconds, mlperf=measured)
    times = _times(artifacts, Schedule(batches, rounds, processes, count))
    return InterleavedRecord(
        environment=machine,
        artifacts=rows,
        rounds=rounds,
        processes=processes,
        latency=[row for batch, by_artifact in times.items() for row in _latency(batch, by_artifact)],
        fastest=[_fastest(batch, by_artifact) for batch, by_artifact in times.items()],
    )


def environment(runtimes: Sequence[str], threads: int) -> Machine:
    """Describe this machine and the versions of some runtimes, for timings on `threads` threads."""
    packages = [*(find_runtime(name).engine for name in runtimes), "numpy"]
    return Machine(
        processor=processor(),
        cores=cores(),
        cpu_quota=quota(),
        threads=threads,
        platform=platform.platform(),
        python=platform.python_version(),
        packages={name: version_of(name) for name in packages},
    )


def parse_batches(text: str) -> list[int]:
    """Parse batch sizes such as `1,16`, each once.

    Raises:
        UsageError: it is not a comma-separated list of integers from 1 to 1024.
    """
    try:
        batches = list(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        batches = []
    if not batches or not all(0 < batch <= MAX_BATCH for batch in batches):
        raise UsageError(f"--batches must be comma-separated integers from 1 to {MAX_BATCH}, not {text!r}")
    return batches


def _load(path: Path, runtime: str | None, threads: int) -> tuple[Artifact, float]:
    started = time.perf_counter()
    artifact = load_artifact(path, runtime, threads)
    return artifact, time.perf_counter() - started


def _row(number: int, artifact: Artifact, load_s: float, batch: int, threads: int) -> ArtifactRow:
    return ArtifactRow(
        number=number,
        path=str(artifact.path),
        runtime=artifact.runtime,
        bytes=artifact_bytes(artifact.path),
        load_s=load_s,
        peak_memory_bytes=peak_memory(artifact.path, artifact.runtime, batch, threads),
    )


def _all_readers(path: Path) -> list[tuple[Path, str | None]]:
    """Pair the file at a path, or those of its formats, with every usable runtime that reads it."""
    formats = sorted(path.glob(f"*/{PREPROCESS}")) if path.is_dir() and not (path / PREPROCESS).is_file() else []
    files = [find_artifact(folder)[0] for folder in ([file.parent for file in formats] or [path])]
    pairs = [(file, name) for file in files for name, entry in RUNTIMES.items() if file.name.endswith(entry.reads)]
    usable: list[tuple[Path, str | None]] = [(file, name) for file, name in pairs if _is_usable(name)]
    return usable or [(path, None)]


def _is_usable(name: str) -> bool:
    try:
        require_engine(name)
    except CompressError:
        return False
    return True


def _fastest(batch: int, times: Mapping[str, Sequence[Timings]]) -> FastestRow:
    first, *tied = map(int, fastest({number: round_medians(taken) for number, taken in times.items()}))
    return FastestRow(batch=batch, number=first, tied=tied)


def _times(artifacts: Sequence[Artifact], schedule: Schedule) -> ByBatch:
    numbered = {str(number): artifact for number, artifact in enumerate(artifacts, 1)}
    candidates = {number: file_candidate(str(a.path), a.runtime, a.path) for number, a in numbered.items()}

    def images(number: str, batch: int) -> Array:
        return numbered[number].preprocess.noise(batch)

    return collect([time_together(candidates, images, schedule, process) for process in range(schedule.processes)])


def _latency(batch: int, times: Mapping[str, Sequence[Timings]]) -> list[LatencyRow]:
    rows = []
    for number, taken in enumerate(times.values(), 1):
        record = summary(taken, times["1"])
        assert record["ratio_to_reference"] is not None
        rows.append(
            LatencyRow(
                number=number,
                batch=batch,
                p50_ms=record["p50_ms"],
                p90_ms=float(np.percentile([time for rounds in taken for runs in rounds for time in runs], 90)),
                p99_ms=record["p99_ms"],
                timings=record["timings"],
                process_p50_ms=record["process_p50_ms"],
                autocorrelation=record["autocorrelation"],
                split=record["split"],
                images_per_s=1000 * batch / record["p50_ms"],
                ratio_to_first=record["ratio_to_reference"],
                ratio_ci95=list(record["ratio_ci95"]) if record["ratio_ci95"] else None,
            )
        )
    return rows
