"""Benchmark the inference energy of all variants of a run with an energy counter."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from compress.benchmark.targets import BenchTargets
from compress.measurement.counters import Counter, CounterError
from compress.measurement.energy import measure_energy
from compress.registry import runs_on_processor
from compress.results import EnergyMeasurement, EnergyMeasurements
from compress.stages.context import StageContext
from compress.utils.boundaries import boundary
from compress.utils.console import say, task

ENERGY = "energy.json"


def benchmark_energy(
    context: StageContext, counter: Counter, folder: Path, leave_out: Collection[tuple[str, str | None]] = ()
) -> None:
    """Measure every variant in each of its runtimes at the largest batch, and write `energy.json`.

    Runtimes on devices that the counter does not cover are left out.

    Args:
        context: Context of the run.
        counter: The energy counter.
        folder: Folder to write to.
        leave_out: What could not be timed, as `BenchTargets.file` names it: it may crash.

    Raises:
        CompressError: a candidate cannot be loaded.
        CounterError: the counter cannot be read or does not advance, or no variant draws more than idle power.
    """
    targets = BenchTargets.find(context)
    batch = max(context.recipe.measure.batches)
    rows: dict[str, tuple[EnergyMeasurement, ...]] = dict.fromkeys(targets.preprocess, ())
    covered = {runtime: by_key for runtime, by_key in targets.candidates.items() if _covers(counter, runtime)}
    wanted = [
        (runtime, key, candidate)
        for runtime, by_key in covered.items()
        for key, candidate in by_key.items()
        if targets.file(runtime, key) not in leave_out
    ]
    if not wanted:
        raise CounterError(f"{counter.name} covers none of the devices that files run on")
    with task("energy", len(wanted)) as advance:
        for runtime, key, candidate in wanted:
            with boundary("runtime", f"{key} in {runtime}"):
                run = candidate.load(targets.threads)
            guarded = partial(_run, run, targets.images(key, batch), f"{key} in {runtime}")
            measured = measure_energy(guarded, counter, batch)
            if measured.value is None:
                say(f"  {key} in {runtime}: no more power than the idle machine, energy unknown")
            setting, name = asdict(targets.setting(key, runtime, batch)), targets.variant[key]
            rows[name] = (*rows[name], EnergyMeasurement(**setting, **asdict(measured)))
            advance()
    if not any(row.value for of_variant in rows.values() for row in of_variant):
        raise CounterError("no variant draws more power than the idle machine; stop other work on it and rerun")
    EnergyMeasurements(counter=counter.name, energy=rows).write(folder / ENERGY)


def _run(run: Callable[[Any], object], images: Any, what: str) -> None:
    with boundary("runtime", what):
        run(images)


def _covers(counter: Counter, runtime: str) -> bool:
    """Return whether a counter covers the device that a runtime's files run on."""
    if counter.covers_gpus or runs_on_processor(runtime):
        return True
    say(f"  {runtime} runs on a device that {counter.name} does not cover: energy unknown")
    return False
