"""Benchmark latency and peak memory of all variants of a run, in every runtime that they have artifacts for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from compress.benchmark.runtime_selection import select_runtimes
from compress.benchmark.targets import BenchTargets, runnable_artifacts
from compress.deployment.memory import peak_memory
from compress.deployment.timing import ByBatch, Schedule, collect, time_together
from compress.measurement.latency import summary
from compress.results import LatencyMeasurements, LatencyRow, PeakMemoryBasis
from compress.stages.context import StageContext
from compress.utils.console import say, task

LATENCY = "latency.json"


def benchmark_latency(context: StageContext, folder: Path) -> None:
    """Time all variants side by side, runtime by runtime, in several processes, and write `latency.json`."""
    targets = BenchTargets.find(context)
    latency = _latency(context, targets)
    memory, basis = _memory(context, max(context.recipe.measure.batches))
    choices = select_runtimes(context, latency)
    for name, by_batch in choices.items():
        for choice in by_batch:
            say(f"  {name}, batch {choice.batch}: {choice.runtime or 'no artifact within the accuracy loss'}")
    record = LatencyMeasurements(
        latency=latency,
        choices=choices,
        peak_memory_bytes=memory,
        peak_memory_basis=basis,
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    )
    record.write(folder / LATENCY)


def _latency(context: StageContext, targets: BenchTargets) -> dict[str, tuple[LatencyRow, ...]]:
    measure, reference = context.recipe.measure, context.recipe.worth.references[0]
    rows: dict[str, tuple[LatencyRow, ...]] = dict.fromkeys(targets.preprocess, ())
    for runtime, by_batch in _timings(context, targets).items():
        for batch, by_variant in by_batch.items():
            for name, processes in by_variant.items():
                setting = asdict(targets.setting(name, runtime, batch))
                row = LatencyRow.model_validate({**setting, **summary(processes, by_variant.get(reference))})
                rows[name] = (*rows[name], row)
                if row.split:
                    medians = ", ".join(f"{value:.3g}" for value in row.process_p50_ms)
                    say(f"  {name} in {runtime}, batch {batch}: several modes: {medians} ms in fresh processes")
    if measure.processes == 1:
        say("  one process: intervals do not include how processes differ; set measure.processes to 3 or more")
    return rows


def _timings(context: StageContext, targets: BenchTargets) -> dict[str, ByBatch]:
    """Time each runtime's variants in every process; runtimes take turns, so that all see the same phases."""
    measure = context.recipe.measure
    schedule = Schedule(measure.batches, measure.rounds, measure.processes, targets.threads)
    found: dict[str, list[ByBatch]] = {runtime: [] for runtime, variants in targets.candidates.items() if variants}
    with task("latency", len(found) * measure.processes) as advance:
        for process in range(measure.processes):
            for runtime, timings in found.items():
                timings.append(time_together(targets.candidates[runtime], targets.images, schedule, process))
                advance()
    return {runtime: collect(timings) for runtime, timings in found.items()}


def _memory(context: StageContext, batch: int) -> tuple[dict[str, int | None], dict[str, PeakMemoryBasis]]:
    """Return the peak memory of a process that runs the first artifact of each variant, and its runtime and batch."""
    memory: dict[str, int | None] = {planned.id: None for planned in context.plan.variants}
    basis: dict[str, PeakMemoryBasis] = {}
    for planned in context.plan.exports:
        assert planned.parent
        for runtime, path in runnable_artifacts(context, planned)[:1]:
            memory[planned.parent] = peak_memory(path, runtime, batch)
            basis[planned.parent] = PeakMemoryBasis(runtime=runtime, batch=batch)
    return memory, basis
