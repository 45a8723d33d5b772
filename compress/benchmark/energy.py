"""Energy of inference of all variants, where the machine has a counter."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from compress.measurement.counters import Counter, CounterError
from compress.measurement.energy import measure_energy
from compress.stages.context import StageContext
from compress.stages.export import BenchTargets, first_images, setting
from compress.utils.console import say, task


def measure_energies(work: StageContext, counter: Counter, folder: Path) -> None:
    """Measure each variant in each of its runtimes, at the largest batch, and write `energy.json`.

    Raises:
        CounterError: the counter cannot be read or stands still, or nothing draws more than idleness.
    """
    timed = BenchTargets.of(work)
    batch = max(work.recipe.measure.batches)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in timed.networks}
    with task("energy", sum(map(len, timed.runners.values()))) as advance:
        for runtime, by_variant in timed.runners.items():
            for name, run in by_variant.items():
                images = first_images(timed.networks[name][1], work.data.test, batch)
                found = measure_energy(partial(run, images), counter, batch)
                if found.value is None:
                    say(f"  {name} in {runtime} draws no more than the idle machine: its energy is not known")
                rows[name].append({**setting(work, timed, name, runtime, batch), **asdict(found)})
                advance()
    if not any(row["value"] for of_one in rows.values() for row in of_one):
        raise CounterError("no variant draws more than the idle machine; is it busy with other work?")
    (folder / "energy.json").write_text(json.dumps({"counter": counter.name, "energy": rows}, indent=1))
