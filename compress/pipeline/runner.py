"""Run a recipe: make the stages that the store lacks, measure, and write the run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from compress.data.left_out import left_out_line
from compress.data.prepared import ImageData, prepare
from compress.deployment.runtimes import require_whole
from compress.pipeline.collect import collect
from compress.pipeline.distributed import WaitingStore, follow, is_follower, leading
from compress.pipeline.dry_run import dry_run
from compress.pipeline.failures import RunFailed, to_make
from compress.pipeline.hosts import check_hosts, measure_on_hosts
from compress.pipeline.making import Job, make_all
from compress.pipeline.measure import measure_energy, measure_latency
from compress.pipeline.plan import make_plan
from compress.pipeline.preflight import check_data, check_requirements, tail_batches
from compress.pipeline.run_folder import Log, new_folder, seal, write_run
from compress.recipe.schema import Recipe
from compress.results.run import RunInfo, RunRecord
from compress.stages.kind import kind_of
from compress.store.file_systems import require_maps
from compress.store.store import Store
from compress.utils.console import say
from compress.utils.errors import UsageError
from compress.utils.processes import require_supported_system
from compress.utils.system import give_caches_a_place, limit_threads


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and the content of its `results.json`."""

    folder: Path
    record: RunRecord


def run(
    recipe: Recipe,
    runs: Path = Path("runs"),
    *,
    fresh: bool = False,
    dry_run_first: bool = True,
    loggers: Sequence[str] = (),
    command: str = "",
) -> Run | None:
    """Run a recipe.

    Args:
        fresh: Ignore the shared store; use a new one in the run folder.
        dry_run_first: Make stages that the store lacks on a few images first; see `dry_run`.
        loggers: `csv`, `tensorboard` or both: log loss, learning rate and accuracy to `logs/` in the run folder.
        command: Command line that reruns it, for the results.

    Returns:
        The run; None in a follower process of multi-device training.

    Raises:
        CompressError: a stage failed; finished stages stay in the store.
        RunFailed: as above, and its folder has the report of the stages that do not need the one that failed.
    """
    require_supported_system()
    limit_threads()
    give_caches_a_place()
    if fresh and recipe.trainer.several_processes:
        raise UsageError(
            "--fresh needs `trainer.devices: 1`: other processes read finished stages from the shared store"
        )
    if is_follower(recipe):
        shared = WaitingStore(runs / "store")
        follow(make_plan(recipe, shared), shared)
        return None
    started, clock = datetime.now(UTC), time.monotonic()
    folder = new_folder(runs, recipe, started)
    log = Log(folder / "log.jsonl")
    try:
        _check(recipe, loggers)
        store = _open_store(folder / "store" if fresh else runs / "store", folder, log)
        plan = make_plan(recipe, store)
        log.write("plan", units={planned.id: planned.key for planned in plan.stages})
        # A cached run needs no runtimes.
        lacking = to_make(plan.stages, store)
        check_requirements(recipe, [each.stage for each in lacking], require_whole)
        if lacking:
            _check_device(recipe, log)
        check_hosts(plan, store)
        data, remarks = _prepare(recipe, store, log)
        if dry_run_first:
            dry_run(plan, store, data)
        job = Job(plan, store, data, log, tuple(loggers))
        with store.temporary(), leading(plan, store):
            from_store, failures = make_all(job)
            if failures:
                plan = failures.rest(plan)
                job = replace(job, plan=plan)
            measure_latency(plan, store, log, job.context)
            counter = measure_energy(plan, store, log, job.context)
            hosts = measure_on_hosts(plan, store, log)
        made = tuple(planned.id for planned in plan.stages if planned.id not in from_store)
        info = RunInfo(
            id=folder.name, started=started.isoformat(timespec="seconds"), made=made, from_store=tuple(from_store)
        )
        record = collect(
            plan,
            store,
            data,
            info,
            command,
            energy_counter=counter,
            hosts=hosts,
            remarks=remarks,
            failed=failures.rows,
        )
        record = record.finished(wall_s=round(time.monotonic() - clock, 3))
        write_run(record, plan, store, folder)
        log.write("done", wall_s=record.run.wall_s)
        seal(folder)
    except BaseException as error:
        with suppress(OSError):  # a full disk; the error itself reports it
            log.write("failed", error=f"{type(error).__name__}: {error}")
        raise
    if failures:
        say(f"the report of what was made: {folder / 'report.html'}")
        raise RunFailed(failures, folder)
    return Run(folder, record)


def _check(recipe: Recipe, loggers: Sequence[str]) -> None:
    check_requirements(recipe, [kind_of(stage) for stage in recipe.stages])
    if loggers:
        from compress.training.loggers import check_loggers

        check_loggers(loggers)


def _check_device(recipe: Recipe, log: Log) -> None:
    """Find the device of the recipe, or raise what is wrong with it; one that is not the CPU is said."""
    from compress.measurement.device import choose_device, describe

    device = choose_device(recipe.trainer)
    log.write("device", device=describe(device))
    if device.type != "cpu":
        say(f"device: {describe(device)}")


def _prepare(recipe: Recipe, store: Store, log: Log) -> tuple[ImageData, list[str]]:
    """Return the checked data and the remarks on it; both, and what of the source was left out, are said and logged."""
    data = prepare(recipe.data, store, recipe.seed)
    data = replace(data, left_out=(*data.left_out, *tail_batches(recipe, data)))
    if data.left_out:
        say(f"data: left out {left_out_line(data.left_out)}")
    remarks = check_data(recipe, data, store)
    for remark in remarks:
        say(f"data: {remark}")
    log.write("data", left_out=[asdict(row) for row in data.left_out], remarks=remarks)
    return data, remarks


def _open_store(root: Path, folder: Path, log: Log) -> Store:
    store = Store(root)
    store.root.mkdir(parents=True, exist_ok=True)
    require_maps(store.root)
    store.job(folder)
    store.on_use = lambda key: log.write("uses", key=key)
    return store
