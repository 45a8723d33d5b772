"""Energy of inference of all variants of a run, where the machine has a counter."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from compress.benchmark.targets import BenchTargets
from compress.measurement.counters import Counter, NoReading
from compress.measurement.energy import measure_energy
from compress.results import EnergyMeasurement, EnergyMeasurements
from compress.stages.context import StageContext
from compress.utils.console import say, task

ENERGY = "energy.json"


def benchmark_energy(context: StageContext, counter: Counter, folder: Path) -> None:
    """Measure each variant in each of its runtimes, at the largest batch, and write `energy.json`.

    Raises:
        NoReading: the counter cannot be read or stands still, or nothing draws more than the idle machine.
    """
    targets = BenchTargets.load(context)
    batch = max(context.recipe.measure.batches)
    rows: dict[str, tuple[EnergyMeasurement, ...]] = dict.fromkeys(targets.preprocess, ())
    with task("energy", sum(map(len, targets.runners.values()))) as advance:
        for runtime, by_variant in targets.runners.items():
            for name, run in by_variant.items():
                found = measure_energy(partial(run, targets.images(name, batch)), counter, batch)
                if found.value is None:
                    say(f"  {name} in {runtime} draws no more than the idle machine: its energy is unknown")
                setting = asdict(targets.setting(name, runtime, batch))
                rows[name] = (*rows[name], EnergyMeasurement(**setting, **asdict(found)))
                advance()
    if not any(row.value for of_variant in rows.values() for row in of_variant):
        raise NoReading("no variant draws more than the idle machine; is it busy with other work?")
    EnergyMeasurements(counter=counter.name, energy=rows).write(folder / ENERGY)
