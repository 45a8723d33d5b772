"""Latency of a run's artifacts on the machines of `measure.on`. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from compress.deployment.remote.measure import missing_on
from compress.deployment.runtimes import cannot_be_sent
from compress.pipeline.plan import host_key
from compress.pipeline.run_folder import Log
from compress.results.hosts import HostMeasurement
from compress.results.stored import runnable_artifacts
from compress.stages.planned import Plan
from compress.store.store import Store
from compress.utils.console import say
from compress.utils.errors import CompressError
from compress.utils.hosts import parse_host
from compress.utils.precision import HALF, by_preference

REMEDY = "fix it, or leave the machine out of `measure.on`"


def check_hosts(plan: Plan, store: Store) -> None:
    """Ask each machine whose measurements the store lacks for the runtimes, before anything is trained.

    A runtime that is missing there is said, and its files are not timed on it.

    Raises:
        CompressError: machines cannot be reached, or have none of the runtimes; one line with all of them.
    """
    problems = []
    for address in plan.recipe.measure.on:
        wanted = [name for name in _runtimes(plan) if not store.has(host_key(plan, address, name))]
        if not wanted:
            continue
        try:
            missing = missing_on(parse_host(address), wanted)
        except CompressError as error:
            problems.append(str(error))
            continue
        for reason in missing.values():
            say(f"{address}: {reason}")
        if len(missing) == len(_runtimes(plan)):
            problems.append(f"{address}: none of the runtimes of this recipe is there: {', '.join(missing)}")
    if problems:
        raise CompressError(f"measure.on: {'; '.join(problems)}; {REMEDY}")


def measure_on_hosts(plan: Plan, store: Store, log: Log) -> list[HostMeasurement]:
    """Measure on every machine, runtime by runtime; what fails there is said, and does not end the run.

    Measurements are kept in the store, failures are not: the same command tries again.
    """
    return [
        _measure(plan, store, log, address, runtime)
        for address in plan.recipe.measure.on
        for runtime in _exported(plan)
    ]


def _measure(plan: Plan, store: Store, log: Log, address: str, runtime: str) -> HostMeasurement:
    from compress.benchmark.hosts import HOST

    key, what = host_key(plan, address, runtime), f"latency of {runtime} on {address}"
    try:
        if reason := cannot_be_sent(runtime):
            raise CompressError(f"{address}: {reason}")
        if store.has(key):
            say(f"{what}: taken from the store")
        else:
            say(what)
            if not store.get(key, what, lambda folder: _benchmark(plan, store, address, runtime, folder))[1]:
                log.write("made", unit=what, key=key)
        return HostMeasurement.read(store.path(key) / HOST)
    except CompressError as error:
        say(f"  not measured: {error}")
        log.write("not measured", unit=what, error=str(error))
        largest = max(plan.recipe.measure.batches)
        return HostMeasurement(host=address, runtime=runtime, batch=largest, reason=str(error))


def _benchmark(plan: Plan, store: Store, address: str, runtime: str, folder: Path) -> None:
    from compress.benchmark.hosts import HOST, HostTarget, benchmark_on
    from compress.deployment.bench_measure import BenchSettings

    usual = {planned.id: planned.stage.variant_precision for planned in plan.variants}
    preferred_last = sorted(_files(plan, store, runtime), key=lambda file: -by_preference(file[2]))
    targets = {name: HostTarget(path, own if own in HALF else usual[name]) for name, path, own in preferred_last}
    if not targets:
        raise CompressError(f"no file for {runtime} was made")
    measure = plan.recipe.measure
    settings = BenchSettings(runtime, measure.batches, measure.rounds, measure.threads, processes=measure.processes)
    benchmark_on(parse_host(address), runtime, targets, settings, plan.references).write(folder / HOST)


def _exported(plan: Plan) -> list[str]:
    """Return the runtimes that the exports write files for, each once."""
    return list(dict.fromkeys(name for planned in plan.exports for name in planned.runtimes))


def _runtimes(plan: Plan) -> list[str]:
    """Return those of them whose files other machines can be sent."""
    return [name for name in _exported(plan) if cannot_be_sent(name) is None]


def _files(plan: Plan, store: Store, runtime: str) -> Iterator[tuple[str, Path, str | None]]:
    """Yield the variants that have a file for a runtime, the file, and its precision."""
    for planned in plan.exports:
        assert planned.parent
        for row, path in runnable_artifacts(store.path(planned.key)):
            if row.runtime == runtime:
                yield planned.parent, path, row.precision
