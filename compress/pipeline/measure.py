"""Measurements of a run: latency, energy, robustness and OOD detection, from the store or newly made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.ood import OodImages
from compress.measurement.counters import Counter, CounterError, CounterLookup, find_counter
from compress.measurement.threads import torch_threads
from compress.pipeline.file_units import FileUnit
from compress.pipeline.ood import ood_units
from compress.pipeline.robustness import corruption_units
from compress.pipeline.run_folder import Log
from compress.stages.planned import Plan, PlannedStage
from compress.store.store import Store
from compress.utils.console import say
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from compress.stages.context import StageContext


def measure_latency(plan: Plan, store: Store, log: Log, context: Callable[[], StageContext]) -> None:
    """Benchmark the latency of all variants and artifacts of a plan."""
    if store.has(plan.latency_key):
        say("latency: taken from the store")
        return
    from compress.benchmark.latency import benchmark_latency

    measure = plan.recipe.measure
    where = "one process" if measure.processes == 1 else f"{measure.processes} fresh processes per runtime"
    say(f"latency: {measure.rounds} interleaved rounds of all variants in {where}")
    with torch_threads(thread_count(measure.threads)):
        store.get(plan.latency_key, "latency", lambda folder: benchmark_latency(context(), folder))
    log.write("made", unit="latency", key=plan.latency_key)


def is_timed(plan: Plan, store: Store) -> bool:
    """Return whether the store has what is measured by timing on this machine."""
    wanted = plan.recipe.measure.energy == "auto" and find_counter().counter is not None
    return store.exists(plan.latency_key) and (not wanted or store.exists(plan.energy_key))


def measure_energy(plan: Plan, store: Store, log: Log, context: Callable[[], StageContext]) -> str:
    """Measure energy if the machine has a counter, and return its name, or why there is none; failures are reported."""
    found = find_counter() if plan.recipe.measure.energy == "auto" else CounterLookup(None, "not asked")
    if found.counter is None:
        log.write("no energy counter", reason=found.detail)
    elif store.has(plan.energy_key):
        say("energy: taken from the store")
    else:
        _run_counter(plan, store, found.counter, log, context)
    return found.detail


def _run_counter(plan: Plan, store: Store, counter: Counter, log: Log, context: Callable[[], StageContext]) -> None:
    from compress.benchmark.energy import benchmark_energy

    say(f"energy: {counter.name}, about ten seconds per variant and runtime")
    try:
        with torch_threads(thread_count(plan.recipe.measure.threads)):
            store.get(plan.energy_key, "energy", lambda folder: benchmark_energy(context(), counter, folder))
        log.write("made", unit="energy", key=plan.energy_key)
    except CounterError as error:
        say(f"energy: not measured: {error}")
        log.write("no energy", reason=str(error))


def measure_corruptions(plan: Plan, store: Store, log: Log, context: Callable[[], StageContext]) -> None:
    """Evaluate networks and files on corrupted test images, where the recipe names corruptions."""
    from compress.benchmark.further_images import predict_corrupted

    named = ", ".join(plan.recipe.measure.corruption_names)
    _evaluate(store, log, corruption_units(plan, store), "corruptions", named, context, predict_corrupted)


def measure_ood(
    plan: Plan, store: Store, log: Log, context: Callable[[], StageContext], images: OodImages | None
) -> None:
    """Score the test images and the images of `measure.ood` by networks and files, where the recipe names a folder."""
    if images is None:
        return
    from compress.benchmark.further_images import score_ood

    def score(context: StageContext, planned: PlannedStage, folder: Path) -> None:
        score_ood(context, planned, images, folder)

    named = f"{len(images.images):,} images of none of the classes"
    _evaluate(store, log, ood_units(plan, store, images.key), "OOD images", named, context, score)


def _evaluate(
    store: Store,
    log: Log,
    units: Sequence[FileUnit],
    what: str,
    named: str,
    context: Callable[[], StageContext],
    evaluate: Callable[[StageContext, PlannedStage, Path], None],
) -> None:
    lacking = [unit for unit in units if not store.has(unit.key)]
    if units and not lacking:
        say(f"{what}: taken from the store")
    if not lacking:
        return
    say(f"{what}: {named}; {sum(len(unit.names) for unit in lacking)} networks and files on the test images")
    made = context()
    for unit in lacking:
        about = f"predictions of {unit.planned.id} on {what}"
        store.get(unit.key, about, partial(evaluate, made, unit.planned))
        log.write("made", unit=f"{what} of {unit.planned.id}", key=unit.key)
