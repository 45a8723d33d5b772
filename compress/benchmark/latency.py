"""Benchmark latency and peak memory of all variants of a run, in every runtime that they have artifacts for."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from compress.benchmark.runtime_selection import select_runtimes
from compress.benchmark.targets import BenchTargets, runnable_artifacts
from compress.deployment.memory import peak_memory
from compress.measurement.latency import measure_interleaved, summary
from compress.results import LatencyMeasurements, LatencyRow, PeakMemoryBasis
from compress.stages.context import StageContext
from compress.utils.console import say, task

LATENCY = "latency.json"


def benchmark_latency(context: StageContext, folder: Path) -> None:
    """Time all variants in interleaved rounds, runtime by runtime and batch by batch, and write `latency.json`."""
    targets = BenchTargets.load(context)
    latency = _latency(context, targets)
    memory, basis = _memory(context, max(context.recipe.measure.batches))
    choices = select_runtimes(context, targets)
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
    with task("latency", len(targets.runners) * len(measure.batches)) as advance:
        for runtime, by_variant in targets.runners.items():
            for batch in measure.batches:
                candidates = {name: partial(run, targets.images(name, batch)) for name, run in by_variant.items()}
                times = measure_interleaved(candidates, measure.rounds)
                for name, taken in times.items():
                    setting = asdict(targets.setting(name, runtime, batch))
                    row = LatencyRow.model_validate({**setting, **summary(taken, times.get(reference))})
                    rows[name] = (*rows[name], row)
                advance()
    return rows


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
