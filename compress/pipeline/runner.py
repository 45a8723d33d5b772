"""Run a recipe: make the stages that the store lacks, measure, and write the run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.left_out import left_out_line
from compress.data.prepared import ImageData, prepare
from compress.deployment.runtimes import require_whole
from compress.measurement.threads import torch_threads
from compress.pipeline.collect import collect
from compress.pipeline.cost_model import expected
from compress.pipeline.distributed import NONE_THERE, WaitingStore, follow, is_follower, lost_follower
from compress.pipeline.dry_run import dry_run
from compress.pipeline.eta import TimeLeft
from compress.pipeline.failures import Failures, RunFailed, to_make
from compress.pipeline.hosts import check_hosts, measure_on_hosts
from compress.pipeline.measure import measure_energy, measure_latency
from compress.pipeline.plan import make_plan
from compress.pipeline.preflight import check_data, check_requirements, tail_batches
from compress.pipeline.progress_table import ProgressTable
from compress.pipeline.run_folder import Log, new_folder, seal, write_run
from compress.recipe.schema import Recipe
from compress.results.run import RunInfo, RunRecord
from compress.stages.kind import kind_of
from compress.stages.planned import Plan, PlannedStage
from compress.store.file_systems import require_maps
from compress.store.store import Store
from compress.utils.console import console, duration, say, time_after
from compress.utils.errors import CompressError, UsageError, is_interruption
from compress.utils.processes import require_supported_system
from compress.utils.system import give_caches_a_place, limit_threads

if TYPE_CHECKING:
    from compress.stages.context import StageContext


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and the content of its `results.json`."""

    folder: Path
    record: RunRecord


@dataclass(frozen=True)
class _Job:
    """State shared by the steps of a run. The context, which imports torch, is created on demand."""

    plan: Plan
    store: Store
    data: ImageData
    log: Log
    loggers: tuple[str, ...]

    def context(self) -> StageContext:
        from compress.stages.context import StageContext
        from compress.training.loggers import FitLoggers

        loggers = FitLoggers(self.log.write, self.loggers, self.log.path.parent / "logs")
        return StageContext(self.plan, self.store, self.data, loggers)


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
        job = _Job(plan, store, data, log, tuple(loggers))
        with store.temporary():
            from_store, failures = _make_all(job)
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


def _make_all(job: _Job) -> tuple[list[str], Failures]:
    """Make the stages that the store lacks; a terminal shows the remaining time.

    Returns:
        The ids of the stages that it has, and what failed. On several devices the first failure is raised: the other
        processes would wait for the stage.
    """
    plan, store, failures = job.plan, job.store, Failures()
    context = job.context() if to_make(plan.stages, store) else None
    left = _time_left(job) if context and console.is_terminal else None
    stored, progress = [], ProgressTable()
    for number, planned in enumerate(plan.stages, 1):
        place = f"[{number}/{len(plan.stages)}]"
        if context is None or store.has(planned.key):
            say(f"{place} {planned.id}: taken from the store")
            job.log.write("stored", unit=planned.id, key=planned.key)
            stored.append(planned.id)
            if context and planned.makes_variant:
                progress.add(planned.id, context.metrics(planned.id))
            continue
        if missing := failures.blocks(planned):
            say(f"{place} {planned.id}: skipped, as {missing} failed")
            continue
        say(f"{place} {planned.id}: {planned.stage.progress()}")
        try:
            with time_after(left.after(planned.id)) if left else nullcontext():
                seconds = _make(context, planned, job.log)
        except CompressError as error:
            if plan.recipe.trainer.several_processes or is_interruption(error):
                raise
            say(f"  failed: {error}")
            job.log.write("stage failed", unit=planned.id, error=str(error))
            failures.add_stage(planned, error)
            continue
        failures.add_files(planned, store)
        say(f"  done in {seconds:.0f} s")
        if planned.makes_variant:
            progress.add(planned.id, context.metrics(planned.id))
            progress.show()
        if left:
            left.done(planned.id, seconds)
    return stored, failures


def _time_left(job: _Job) -> TimeLeft:
    """Estimate the remaining time; this times networks for some seconds, so only for a terminal."""
    rows = expected(job.plan, job.store, job.data)
    total = duration(sum(row.seconds for row in rows))
    say(f"about {total} in total; see `compress-model plan` for each stage")
    return TimeLeft(rows)


def _make(context: StageContext, planned: PlannedStage, log: Log) -> float:
    """Make a stage and return the seconds it took."""
    import torch

    log.write("start", unit=planned.id, key=planned.key)
    clock = time.monotonic()
    make = planned.stage.load_maker()
    try:
        with torch_threads(torch.get_num_threads()):  # a library or a plugin may change it
            context.store.get(planned.key, planned.id, lambda folder: make(context, planned, folder))
    except CompressError as error:
        raise type(error)(f"stage {planned.id}: {error}") from error
    except RuntimeError as error:
        if not lost_follower(error):
            raise
        raise CompressError(f"stage {planned.id}: another process of its training has ended; {NONE_THERE}") from error
    seconds = time.monotonic() - clock
    log.write("made", unit=planned.id, key=planned.key, seconds=round(seconds, 3))
    if planned.makes_variant:
        for divergence in context.metrics(planned.id).training.diverged:
            log.write("diverged", unit=planned.id, **divergence.model_dump())
    return seconds
