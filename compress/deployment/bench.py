"""Benchmarking artifacts side by side: interleaved latency, throughput, load time, peak memory and size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import numpy as np

from compress.deployment.bench_measure import (
    MLPERF,
    ArtifactRow,
    BenchSettings,
    Machine,
    Measured,
    grouped,
    measure_files,
)
from compress.deployment.layer_pairs import LayerPair, layer_pairs
from compress.deployment.layers import ProfileRecord
from compress.deployment.mlperf import MlperfRow
from compress.deployment.onnx_layer_names import with_sources
from compress.efficiency.timing import fastest
from compress.measurement.latency import Timings, round_medians, summary
from compress.utils.errors import UsageError
from compress.utils.hosts import Host

MAX_BATCH = 1024
DRIVERS = ("turns", MLPERF)


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
    """Result of interleaved timing rounds; `rounds` are those of all processes, which may be more than asked for."""

    rounds: int
    processes: int
    latency: list[LatencyRow]
    fastest: list[FastestRow]


class LayersRecord(BenchRecord):
    """Time per layer at one batch size; `pairs` are of each artifact with the first."""

    profile: ProfileRecord
    pairs: list[LayerPair]


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
    on: Host | None = None,
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
        on: Another machine to measure on, with the runtimes that are installed there; by default this one.

    Raises:
        UsageError: the driver is unknown, or as `load_artifact` does.
        CompressError: the generator is not installed, or as `load_artifact` or `measure_on` does.
    """
    if driver not in DRIVERS:
        raise UsageError(f"--driver must be {' or '.join(DRIVERS)}, not {driver!r}")
    settings = BenchSettings(runtime, tuple(batches), rounds, threads, driver, seconds, processes)
    return _record(_measure(paths, settings, on), settings)


def bench_layers(
    paths: Sequence[Path],
    runtime: str | None = None,
    batch: int = 1,
    runs: int = 30,
    threads: int | None = None,
    on: Host | None = None,
) -> LayersRecord:
    """Time the layers of artifacts, and pair those of each with the first's; arguments and errors as of `bench`.

    Raises:
        CompressError: a runtime does not tell the time of layers.
    """
    measured = _measure(paths, BenchSettings(runtime, (batch,), runs, threads, layers=True), on)
    profile = measured["profile"]
    assert profile is not None
    by_number = []
    for artifact in measured["artifacts"]:
        rows = [row for row in profile["layers"] if row["number"] == artifact["number"]]
        if artifact["path"].endswith(".onnx") and find_spec("onnx"):  # a machine that only runs artifacts may lack it
            with_sources(rows, Path(artifact["path"]))
        by_number.append(rows)
    return LayersRecord(
        environment=measured["environment"],
        artifacts=measured["artifacts"],
        profile=profile,
        pairs=[pair for rows in by_number[1:] for pair in layer_pairs(by_number[0], rows)],
    )


def _measure(paths: Sequence[Path], settings: BenchSettings, on: Host | None) -> Measured:
    if on is None:
        return measure_files(grouped(paths, settings), settings)
    from compress.deployment.remote.measure import measure_on

    return measure_on(on, paths, settings)


def _record(measured: Measured, settings: BenchSettings) -> InterleavedRecord | MlperfRecord:
    machine, artifacts = measured["environment"], measured["artifacts"]
    if measured["mlperf"] is not None:
        return MlperfRecord(
            environment=machine, artifacts=artifacts, seconds=settings.seconds, mlperf=measured["mlperf"]
        )
    times = measured["times"]
    assert times is not None
    return InterleavedRecord(
        environment=machine,
        artifacts=artifacts,
        rounds=sum(len(rounds) for rounds in times[settings.batches[0]]["1"]),
        processes=settings.processes,
        latency=[row for batch, by_artifact in times.items() for row in _latency(batch, by_artifact)],
        fastest=[_fastest(batch, by_artifact) for batch, by_artifact in times.items()],
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


def _fastest(batch: int, times: Mapping[str, Sequence[Timings]]) -> FastestRow:
    first, *tied = map(int, fastest({number: round_medians(taken) for number, taken in times.items()}))
    return FastestRow(batch=batch, number=first, tied=tied)


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
