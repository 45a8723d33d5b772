"""The measuring half of `bench`: load, memory and timings of artifacts on the machine that this runs on.

It is also sent to other machines (`compress.deployment.remote`), so it must run on Python 3.10 with numpy and a
runtime, and leaves statistics to `compress.deployment.bench`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypedDict

from compress.deployment.artifact import Artifact, find_artifact, load_verified, verified
from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.layers import ProfileRecord, profile_layers
from compress.deployment.memory import peak_memory
from compress.deployment.mlperf import MlperfRow, require_loadgen, run_loadgen
from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.runtime import Array
from compress.deployment.runtimes import find_runtime, require_engine
from compress.deployment.timing import ByBatch, Schedule, collect, file_candidate, time_together
from compress.measurement.load import with_other_load
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError
from compress.utils.system import cores, processor, quota, thread_count, version_of

AUTO = "auto"
MLPERF = "mlperf"


@dataclass(frozen=True)
class BenchSettings:
    """How to benchmark; see `compress.deployment.bench.bench`."""

    runtime: str | None = None
    batches: Sequence[int] = (1, 16)
    rounds: int = 30
    threads: int | None = None
    driver: str = "turns"
    seconds: float = 10
    processes: int = 3
    layers: bool = False


class Machine(TypedDict):
    """The machine and versions that timings hold for; `packages` are versions by name, None where unknown.

    `host` is the address of another machine; None for this one.
    """

    host: str | None
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


class Measured(TypedDict):
    """What was measured, before statistics: `times` with the driver `turns`, `mlperf` with the other, or `profile`.

    `times` are milliseconds `[processes][rounds][runs]` by batch size and number of the artifact. `other_cores` are the
    cores that other work used on average while each process ran, None where unknown.
    """

    environment: Machine
    artifacts: list[ArtifactRow]
    times: ByBatch | None
    other_cores: list[float | None]
    mlperf: list[MlperfRow] | None
    profile: ProfileRecord | None


def measure_files(groups: Sequence[Sequence[Path]], settings: BenchSettings) -> Measured:
    """Measure artifacts on this machine, in groups as `grouped` makes them; errors are those of `bench`."""
    if settings.driver == MLPERF:
        require_loadgen()
    count, largest = thread_count(settings.threads), max(settings.batches)
    chosen = [
        pair
        for files in groups
        for pair in (_all_readers(files) if settings.runtime == AUTO else [(path, settings.runtime) for path in files])
    ]
    for path, name in chosen:  # a mistake in the last one is reported before minutes are spent on the first
        require_engine(find_artifact(path, name)[1])
    loaded = [_load(path, name, count) for path, name in chosen]
    artifacts = [artifact for artifact, _ in loaded]
    measured = Measured(
        environment=environment([*dict.fromkeys(artifact.runtime for artifact in artifacts)], count),
        artifacts=[_row(number, *each, largest, count) for number, each in enumerate(loaded, 1)],
        times=None,
        other_cores=[],
        mlperf=None,
        profile=None,
    )
    if settings.layers:
        measured["profile"] = profile_layers(artifacts, settings.batches[0], settings.rounds, count)
    elif settings.driver == MLPERF:
        measured["mlperf"] = run_loadgen(artifacts, largest, settings.seconds)
    else:
        schedule = Schedule(settings.batches, settings.rounds, settings.processes, count)
        measured["times"], measured["other_cores"] = _times(artifacts, schedule)
    return measured


def environment(runtimes: Sequence[str], threads: int) -> Machine:
    """Describe this machine and the versions of some runtimes, for timings on `threads` threads."""
    packages = [*(find_runtime(name).engine for name in runtimes), "numpy"]
    return Machine(
        host=None,
        processor=processor(),
        cores=cores(),
        cpu_quota=quota(),
        threads=threads,
        platform=platform.platform(),
        python=platform.python_version(),
        packages={name: version_of(name) for name in packages},
    )


def grouped(paths: Sequence[Path], settings: BenchSettings) -> list[list[Path]]:
    """Return the files at each path: with `runtime: auto`, those of all formats of a variant's folder.

    Raises:
        UsageError: as `find_artifact` does.
    """
    return [_files_of_formats(path) if settings.runtime == AUTO else [path] for path in paths]


def _files_of_formats(path: Path) -> list[Path]:
    """Return the file at a path, or of a folder of formats, `artifacts/VARIANT/`, the file of each."""
    formats = sorted(path.glob(f"*/{PREPROCESS}")) if path.is_dir() and not (path / PREPROCESS).is_file() else []
    return [find_artifact(folder)[0] for folder in ([file.parent for file in formats] or [path])]


def _load(path: Path, runtime: str | None, threads: int) -> tuple[Artifact, float]:
    file, name = verified(path, runtime)  # a large file takes as long to verify as to load
    started = time.perf_counter()
    artifact = load_verified(file, name, threads)
    return artifact, time.perf_counter() - started


def _row(number: int, artifact: Artifact, load_s: float, batch: int, threads: int) -> ArtifactRow:
    return ArtifactRow(
        number=number,
        path=str(artifact.path),
        runtime=artifact.runtime,
        bytes=artifact_bytes(artifact.path, [artifact.runtime]),
        load_s=load_s,
        peak_memory_bytes=peak_memory(artifact.path, artifact.runtime, batch, threads),
    )


def _all_readers(files: Sequence[Path]) -> list[tuple[Path, str | None]]:
    """Pair the files of a group with every usable runtime that reads them; without one, with no name of a runtime."""
    pairs = [(file, name) for file in files for name, entry in RUNTIMES.items() if file.name.endswith(entry.reads)]
    usable: list[tuple[Path, str | None]] = [(file, name) for file, name in pairs if _is_usable(name)]
    return usable or [(file, None) for file in files]


def _is_usable(name: str) -> bool:
    try:
        require_engine(name)
    except CompressError:
        return False
    return True


def _times(artifacts: Sequence[Artifact], schedule: Schedule) -> tuple[ByBatch, list[float | None]]:
    """Time artifacts in all processes; also returns the cores that other work used meanwhile, by process."""
    numbered = {str(number): artifact for number, artifact in enumerate(artifacts, 1)}
    candidates = {number: file_candidate(str(a.path), a.runtime, a.path) for number, a in numbered.items()}

    def images(number: str, batch: int) -> Array:
        return numbered[number].preprocess.noise(batch)

    taken, loads = [], []
    for process in range(schedule.processes):
        times, load = with_other_load(partial(time_together, candidates, images, schedule, process))
        taken.append(times)
        loads.append(load)
    return collect(taken), loads
