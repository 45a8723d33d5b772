"""Benchmark the artifacts of a run on another machine, runtime by runtime. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from compress.deployment.bench_measure import BenchSettings, Measured
from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.remote.measure import malformed, measure_on
from compress.measurement.latency import summary
from compress.results.hosts import HostMachine, HostMeasurement
from compress.results.inference import LatencyRow
from compress.utils.hosts import Host

HOST = "host.json"


@dataclass(frozen=True)
class HostTarget:
    """The artifact of a variant for the runtime that is measured, and the precision of the variant."""

    path: Path
    precision: str


def benchmark_on(
    host: Host, runtime: str, targets: Mapping[str, HostTarget], settings: BenchSettings, references: Sequence[str]
) -> HostMeasurement:
    """Time the artifacts of one runtime side by side on another machine.

    Args:
        host: The machine.
        runtime: The runtime.
        targets: Artifact by variant.
        settings: Batch sizes, rounds, processes and threads.
        references: Variants of which the first with an artifact is what ratios are to; without one there are none.

    Raises:
        CompressError: as `measure_on` does.
    """
    measured = measure_on(host, [target.path for target in targets.values()], replace(settings, runtime=runtime))
    try:
        return _measurement(host, runtime, targets, settings, references, measured)
    except (AttributeError, LookupError, TypeError, ValueError) as error:  # pydantic's are ValueErrors
        raise malformed(host, error) from error


def _measurement(
    host: Host,
    runtime: str,
    targets: Mapping[str, HostTarget],
    settings: BenchSettings,
    references: Sequence[str],
    measured: Measured,
) -> HostMeasurement:
    about = measured["environment"]
    variants, reference = list(targets), next((name for name in references if name in targets), None)
    return HostMeasurement(
        host=str(host),
        runtime=runtime,
        batch=max(settings.batches),
        measured=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=HostMachine.model_validate(about),
        reference=reference,
        latency=_latency(measured, targets, runtime, reference),
        peak_memory_bytes={variants[row["number"] - 1]: row["peak_memory_bytes"] for row in measured["artifacts"]},
    )


def _latency(
    measured: Measured, targets: Mapping[str, HostTarget], runtime: str, reference: str | None
) -> dict[str, tuple[LatencyRow, ...]]:
    loads = [load for load in measured["other_cores"] if load is not None]
    common = {
        "runtime": runtime,
        "threads": measured["environment"]["threads"],
        "other_cores": [round(load, 2) for load in loads] if len(loads) == len(measured["other_cores"]) else None,
    }
    rows: dict[str, tuple[LatencyRow, ...]] = dict.fromkeys(targets, ())
    for batch, by_number in (measured["times"] or {}).items():
        by_variant = dict(zip(targets, by_number.values(), strict=True))
        for name, processes in by_variant.items():
            own = {"batch": batch, "precision": targets[name].precision, "resolution": _resolution(targets[name].path)}
            found = summary(processes, by_variant.get(reference or ""))
            rows[name] = (*rows[name], LatencyRow.model_validate({**common, **own, **found}))
    return rows


def _resolution(path: Path) -> int:
    return int(json.loads((path.parent / PREPROCESS).read_text(encoding="utf-8"))["resolution"])
