"""Measurements of a run: latency, energy, robustness and OOD detection, from the store or newly made."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from compress.measurement.counters import Counter, CounterError, CounterLookup, find_counter
from compress.measurement.threads import torch_threads
from compress.pipeline.failures import Failures, is_of_work, reason_of
from compress.pipeline.file_units import FileUnit
from compress.pipeline.job import Job
from compress.pipeline.ood import ood_units
from compress.pipeline.plan import part_of
from compress.pipeline.robustness import corruption_units
from compress.stages.planned import Plan, PlannedStage
from compress.store.store import Store
from compress.utils.console import say
from compress.utils.errors import CompressError
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from compress.benchmark.latency import NotTimed
    from compress.stages.context import StageContext


def measure_latency(job: Job, failures: Failures) -> Plan:
    """Benchmark the latency of all variants and artifacts of a plan.

    What cannot be timed is a failure of that network or file. The latency of the others is then stored under a key of
    its own, so that the same command tries all again; an earlier record there is replaced unless another run uses it.

    Returns:
        The plan, with the keys of what was timed and of the energy of that.
    """
    plan, store = job.plan, job.store
    if store.has(plan.latency_key):
        say("latency: taken from the store")
        return plan
    from compress.benchmark.latency import LATENCY, LatencyFailed, benchmark_latency

    measure = plan.recipe.measure
    where = "one process" if measure.processes == 1 else f"{measure.processes} fresh processes per runtime"
    say(f"latency: {measure.rounds} interleaved rounds of all variants in {where}")
    try:
        with torch_threads(thread_count(measure.threads)):
            _make(job, plan.latency_key, "latency", lambda folder: benchmark_latency(job.context(), folder))
    except LatencyFailed as error:
        record = error.record
        plan = part_of(plan, [*plan.failed, *(_add_failure(job, failures, each) for each in error.failed)], ())
        if store.has(plan.latency_key) and not store.discard_unused(plan.latency_key):
            say("latency: an earlier record is taken instead: another run uses it, or it is read-only")
        _make(job, plan.latency_key, "latency", lambda folder: record.write(folder / LATENCY))
    return plan


def _make(job: Job, key: str, unit: str, make: Callable[[Path], None], what: str | None = None) -> None:
    """Make an entry, unless the store has it or another run makes it meanwhile; log what was made here."""
    if not job.store.get(key, what or unit, make)[1]:
        job.log.write("made", unit=unit, key=key)


def _add_failure(job: Job, failures: Failures, failed: NotTimed) -> str:
    """Add a network or file that could not be timed to the failures, and return what was not measured."""
    what = f"latency of {failed.unit.id} in {failed.name}"
    job.log.write("not measured", unit=what, error=failed.reason)
    failures.add_file(failed.unit, failed.name, f"latency: {failed.reason}")
    return what


def is_timed(plan: Plan, store: Store) -> bool:
    """Return whether the store has what is measured by timing on this machine."""
    wanted = plan.recipe.measure.energy == "auto" and find_counter().counter is not None
    return store.exists(plan.latency_key) and (not wanted or store.exists(plan.energy_key))


def measure_energy(job: Job, plan: Plan, failures: Failures) -> str:
    """Measure energy if the machine has a counter, and return its name, or why there is none.

    Failures are reported. What `measure_latency` could not time, and `plan` is therefore without, is left out.
    """
    store, log = job.store, job.log
    found = find_counter() if plan.recipe.measure.energy == "auto" else CounterLookup(None, "not asked")
    if found.counter is None:
        log.write("no energy counter", reason=found.detail)
    elif store.has(plan.energy_key):
        say("energy: taken from the store")
    else:
        _run_counter(job, plan, found.counter, failures)
    return found.detail


def _run_counter(job: Job, plan: Plan, counter: Counter, failures: Failures) -> None:
    from compress.benchmark.energy import benchmark_energy

    def make(folder: Path) -> None:
        benchmark_energy(job.context(), counter, folder, {(row.stage, row.runtime) for row in failures.rows})

    say(f"energy: {counter.name}, about ten seconds per variant and runtime")
    try:
        with torch_threads(thread_count(plan.recipe.measure.threads)):
            _make(job, plan.energy_key, "energy", make)
    except (CounterError, CompressError) as error:
        say(f"energy: not measured: {error}")
        job.log.write("no energy", reason=str(error))


def measure_corruptions(job: Job, failures: Failures) -> None:
    """Evaluate networks and files on corrupted test images, where the recipe names corruptions."""
    from compress.benchmark.further_images import predict_corrupted

    named = ", ".join(job.plan.recipe.measure.corruption_names)
    _evaluate(job, failures, corruption_units(job.plan, job.store), "corruptions", named, predict_corrupted)


def measure_ood(job: Job, failures: Failures) -> None:
    """Score the test images and the images of `measure.ood` by networks and files, where the recipe names a folder."""
    images = job.ood
    if images is None:
        return
    from compress.benchmark.further_images import score_ood

    def score(context: StageContext, planned: PlannedStage, name: str, folder: Path) -> None:
        score_ood(context, planned, name, images, folder)

    named = f"{len(images.images):,} images of none of the classes"
    _evaluate(job, failures, ood_units(job.plan, job.store, images.key), "OOD images", named, score)


def _evaluate(
    job: Job,
    failures: Failures,
    units: Sequence[FileUnit],
    what: str,
    named: str,
    evaluate: Callable[[StageContext, PlannedStage, str, Path], None],
) -> None:
    """Evaluate what the store lacks. What cannot be is a failure of that network or file, and not stored."""
    store, log = job.store, job.log
    lacking = [unit for unit in units if not store.has(unit.key)]
    if units and not lacking:
        say(f"{what}: taken from the store")
    if not lacking:
        return
    say(f"{what}: {named}; {len(lacking)} networks and files on the test images")
    context = job.context()
    for unit in lacking:
        about = f"{unit.planned.id} in {unit.name}"
        try:
            make = partial(evaluate, context, unit.planned, unit.name)
            _make(job, unit.key, f"{what} of {about}", make, f"predictions of {about} on {what}")
        except Exception as error:
            if not is_of_work(error):
                raise
            reason = reason_of(error)
            say(f"  {about}: not measured: {reason}")
            if not isinstance(error, CompressError):
                say(f"  its traceback is in {log.path}")
            trace = "".join(traceback.format_exception(error))
            log.write("not measured", unit=f"{what} of {about}", error=reason, trace=trace)
            failures.add_file(unit.planned, unit.name, f"{what}: {reason}")
