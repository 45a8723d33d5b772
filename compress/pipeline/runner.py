"""Run a recipe: make the stages that the store lacks, measure, and write the run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from compress.pipeline.collect import collect
from compress.pipeline.distributed import joined_as_follower, leading
from compress.pipeline.failures import Failures, RunFailed
from compress.pipeline.hosts import measure_on_hosts
from compress.pipeline.job import Job, open_store, prepare_job
from compress.pipeline.making import make_all
from compress.pipeline.measure import is_timed, measure_corruptions, measure_energy, measure_latency, measure_ood
from compress.pipeline.on_ray import check_engine, cluster_of, make_all_on_ray
from compress.pipeline.process import set_up_process
from compress.pipeline.run_folder import Log, new_folder, seal, write_run
from compress.pipeline.tracking import log_results
from compress.recipe.schema import Recipe
from compress.results.run import RunInfo, RunRecord
from compress.stages.planned import Plan
from compress.store.origin import upload_run
from compress.training.trackers import Trackers
from compress.utils.console import say
from compress.utils.errors import UsageError
from compress.utils.ray_cluster import holding_this_machine


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
    engine: str = "local",
    sweep: str | None = None,
) -> Run | None:
    """Run a recipe.

    Args:
        fresh: Ignore the shared store; use a new one in the run folder.
        dry_run_first: Make stages that the store lacks on a few images first; see `dry_run`.
        loggers: Experiment trackers, names of `compress.registry.TRACKERS`: log fits, results and settings to them.
        command: Command line that reruns it, for the results.
        engine: `ray` or `ray://HOST:PORT`: make stages on a Ray cluster; see `on_ray`.
        sweep: Page of the sweep that the run is a trial of, relative to the folder of a run.

    Returns:
        The run; None in a follower process of multi-device training.

    Raises:
        CompressError: a stage failed; finished stages stay in the store.
        RunFailed: as above, and its folder has the report of the stages that do not need the one that failed.
    """
    set_up_process()
    if fresh and (recipe.trainer.several_processes or engine != "local"):
        raise UsageError(
            "--fresh needs `trainer.devices: 1` and no --engine: other processes read stages from the shared store"
        )
    check_engine(engine, recipe.trainer.several_processes)
    if joined_as_follower(recipe, runs):
        return None
    started, clock = datetime.now(UTC), time.monotonic()
    folder = new_folder(runs, recipe, started)
    log = Log(folder / "log.jsonl")
    trackers = _trackers(recipe, loggers, folder, log)
    try:
        store = open_store(folder / "store" if fresh else runs / "store")
        store.job(folder)
        store.on_use = lambda key: log.write("uses", key=key)
        with cluster_of(engine):
            job = prepare_job(recipe, store, log, trackers, dry_run_first=dry_run_first)
            record, plan, failures = _made_and_measured(job, runs, started, command, engine, sweep)
        record = record.finished(wall_s=round(time.monotonic() - clock, 3))
        write_run(record, plan, store, folder)
        log_results(trackers, record)
        trackers.close(success=not failures)
        log.write("done", wall_s=record.run.wall_s, failed=sorted(failures.stages))
        seal(folder)
    except BaseException as error:
        with suppress(OSError):  # a full disk; the error itself reports it
            log.write("failed", error=f"{type(error).__name__}: {error}")
        trackers.close(success=False)
        raise
    if url := upload_run(runs, folder):  # a run whose upload fails is finished here all the same
        say(f"uploaded to {url}")
    if failures:
        say(f"the report of what was made: {folder / 'report.html'}")
        raise RunFailed(failures, folder) from next(iter(failures.errors), None)
    return Run(folder, record)


def _made_and_measured(
    job: Job, runs: Path, started: datetime, command: str, engine: str, sweep: str | None
) -> tuple[RunRecord, Plan, Failures]:
    """Make the stages of a run and measure them; returns also the plan of what was made, and what failed."""
    plan, store, log = job.plan, job.store, job.log
    with store.temporary(), leading(plan, store):
        from_store, failures = make_all(job) if engine == "local" else make_all_on_ray(job, runs)
        if failures:
            plan = failures.rest(plan)
            job = replace(job, plan=plan)
        with nullcontext() if engine == "local" or is_timed(plan, store) else holding_this_machine():
            timed = measure_latency(job, failures)
            counter = measure_energy(job, timed, failures)
        hosts = measure_on_hosts(plan, store, log)
        measure_corruptions(job, failures)
        measure_ood(job, failures)
    info = RunInfo(
        id=log.path.parent.name,
        started=started.isoformat(timespec="seconds"),
        made=tuple(planned.id for planned in plan.stages if planned.id not in from_store),
        from_store=tuple(from_store),
        sweep=sweep,
    )
    record = collect(
        timed,
        store,
        job.data,
        info,
        command,
        energy_counter=counter,
        hosts=hosts,
        remarks=job.remarks,
        failed=failures.rows,
        ood=job.ood,
    )
    return record, plan, failures


def _trackers(recipe: Recipe, names: Sequence[str], folder: Path, log: Log) -> Trackers:
    def failed(name: str, reason: str) -> None:
        log.write("tracker failed", tracker=name, error=reason)

    return Trackers(tuple(dict.fromkeys(names)), folder / "logs", recipe.resolved(), folder.name, failed)
