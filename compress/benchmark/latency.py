"""Benchmark latency and peak memory of all variants of a run, in every runtime that they have artifacts for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from compress.benchmark.runtime_selection import select_runtimes
from compress.benchmark.targets import BenchTargets
from compress.deployment.memory import peak_memory
from compress.deployment.runtime import Array
from compress.deployment.timing import ByBatch, Candidate, Schedule, TimingFailed, collect, time_together
from compress.measurement.latency import summary
from compress.measurement.load import is_crowded, with_other_load
from compress.results import Artifact, LatencyMeasurements, LatencyRow, PeakMemoryBasis
from compress.results.stored import runnable_artifacts
from compress.stages.context import StageContext
from compress.stages.planned import PlannedStage
from compress.utils.console import say, task
from compress.utils.errors import CompressError
from compress.utils.messages import significant
from compress.utils.precision import HALF, by_preference, file_name

LATENCY = "latency.json"


@dataclass(frozen=True)
class NotTimed:
    """A network or file that could not be timed."""

    unit: PlannedStage  # what made it
    name: str  # `pytorch`, or the name of the file
    reason: str


class LatencyFailed(CompressError):
    """Some networks or files could not be timed; `record` has the latency of the others."""

    def __init__(self, record: LatencyMeasurements, failed: Sequence[NotTimed]) -> None:
        super().__init__("; ".join(f"{each.unit.id} in {each.name}: {each.reason}" for each in failed))
        self.record, self.failed = record, tuple(failed)


def benchmark_latency(context: StageContext, folder: Path) -> None:
    """Time all variants side by side, runtime by runtime, in several processes, and write `latency.json`.

    Raises:
        LatencyFailed: some could not be timed; nothing is written.
    """
    targets = BenchTargets.find(context)
    latency, failed = _latency(context, targets)
    memory, basis = _memory(context, max(context.recipe.measure.batches), targets.threads)
    choices = select_runtimes(context, latency)
    for name, by_batch in choices.items():
        for choice in by_batch:
            chosen = choice.runtime and file_name(choice.runtime, choice.precision)
            say(f"  {name}, batch {choice.batch}: {chosen or 'no artifact within the accuracy loss'}")
    record = LatencyMeasurements(
        latency=latency,
        choices=choices,
        peak_memory_bytes=memory,
        peak_memory_basis=basis,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )
    if failed:
        raise LatencyFailed(record, failed)
    record.write(folder / LATENCY)


@dataclass
class _Timed:
    """Timings of one runtime by process, and the cores that other work used meanwhile."""

    left: dict[str, Candidate]  # by key, without those that failed
    failed: dict[str, str] = field(default_factory=dict)  # why, by key
    timings: list[ByBatch] = field(default_factory=list)
    loads: list[float | None] = field(default_factory=list)

    @property
    def other_cores(self) -> tuple[float, ...] | None:
        known = tuple(round(load, 2) for load in self.loads if load is not None)
        return known if len(known) == len(self.loads) else None

    def time(self, images: Callable[[str, int], Array], schedule: Schedule, process: int) -> None:
        """Time the candidates in one process; one that fails is left out of all, and the others are timed again."""
        while self.left:
            try:
                timings, load = with_other_load(partial(time_together, self.left, images, schedule, process))
            except TimingFailed as error:
                say(f"  not measured: {error}")
                for key in [error.key] if error.key else list(self.left):
                    del self.left[key]
                    self.failed[key] = error.reason
                continue
            self.timings.append(timings)
            self.loads.append(load)
            return

    def by_batch(self) -> ByBatch:
        """Return the timings of the candidates that every process has timed."""
        timings = [
            {batch: {key: by_key[key] for key in self.left} for batch, by_key in process.items()}
            for process in self.timings
        ]
        return collect(timings) if self.left else {}


def _latency(context: StageContext, targets: BenchTargets) -> tuple[dict[str, tuple[LatencyRow, ...]], list[NotTimed]]:
    reference = context.plan.references[0]
    rows: dict[str, tuple[LatencyRow, ...]] = dict.fromkeys(targets.preprocess, ())
    timed = _timings(context, targets)
    for runtime, found in timed.items():
        for batch, by_key in found.by_batch().items():
            base = _base(by_key, targets, reference)
            for key, processes in by_key.items():
                fields = {**asdict(targets.setting(key, runtime, batch)), "other_cores": found.other_cores}
                row = LatencyRow.model_validate({**fields, **summary(processes, base)})
                name = targets.variant[key]
                rows[name] = (*rows[name], row)
    for runtime in timed:
        _say_modes(runtime, [(name, row) for name in rows for row in rows[name] if row.runtime == runtime])
    if context.recipe.measure.processes == 1:
        say("  one process: intervals do not include how processes differ; set measure.processes to 3 or more")
    most = max((load for found in timed.values() for load in found.loads if load is not None), default=0.0)
    if is_crowded(most, targets.threads):
        say(
            f"  other processes used up to {most:.1f} cores during timing: threads that wait for a busy core make a "
            "file several times slower; repeat it on an idle machine, or with fewer measure.threads"
        )
    failed = [
        NotTimed(targets.units[runtime, key], file_name(runtime, targets.precision[key]), reason)
        for runtime, found in timed.items()
        for key, reason in found.failed.items()
    ]
    return rows, failed


def _base(
    by_key: Mapping[str, list[list[list[float]]]], targets: BenchTargets, reference: str
) -> list[list[list[float]]] | None:
    """Return the timings that ratios are against: of the reference, not in half precision if it has another file."""
    own = [key for key in by_key if targets.variant[key] == reference]
    return by_key[min(own, key=lambda key: by_preference(targets.precision[key]))] if own else None


def _say_modes(runtime: str, rows: Sequence[tuple[str, LatencyRow]]) -> None:
    """Name the variants of a runtime that have several modes, with the medians of the row that differs most."""
    split = [(name, row) for name, row in rows if row.split]
    if not split:
        return
    name, worst = max(split, key=lambda pair: max(pair[1].process_p50_ms) / min(pair[1].process_p50_ms))
    medians = ", ".join(map(significant, worst.process_p50_ms))
    say(
        f"  several modes of {', '.join(dict.fromkeys(name for name, _ in split))} in {runtime}: "
        f"{name} takes {medians} ms in fresh processes at batch {worst.batch}"
    )


def _timings(context: StageContext, targets: BenchTargets) -> dict[str, _Timed]:
    """Time each runtime's variants in every process; runtimes take turns, so that all see the same phases."""
    measure = context.recipe.measure
    schedule = Schedule(measure.batches, measure.rounds, measure.processes, targets.threads)
    found = {runtime: _Timed(dict(variants)) for runtime, variants in targets.candidates.items() if variants}
    with task("latency", len(found) * measure.processes) as advance:
        for process in range(measure.processes):
            for timed in found.values():
                timed.time(targets.images, schedule, process)
                advance()
    return found


def _memory(
    context: StageContext, batch: int, threads: int
) -> tuple[dict[str, int | None], dict[str, PeakMemoryBasis]]:
    """Return the peak memory of a process that runs a file of each variant, and which one at which batch.

    It is the first file that is not in half precision, if there is one.
    """
    memory: dict[str, int | None] = {planned.id: None for planned in context.plan.variants}
    basis: dict[str, PeakMemoryBasis] = {}
    files: dict[str, list[tuple[Artifact, Path]]] = {}
    for planned in context.plan.exports:
        assert planned.parent
        files.setdefault(planned.parent, []).extend(runnable_artifacts(context.folder(planned.id)))
    for variant, able in files.items():
        if able:
            row, path = min(able, key=lambda file: by_preference(file[0].precision))
            memory[variant] = peak_memory(path, row.runtime, batch, threads)
            half = row.precision if row.precision in HALF else None
            basis[variant] = PeakMemoryBasis(runtime=row.runtime, batch=batch, precision=half, threads=threads)
    return memory, basis
