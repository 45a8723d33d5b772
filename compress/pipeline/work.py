"""Workers: processes that make whatever stages of a recipe are free, on one store, on any number of machines."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.deployment import gpu
from compress.pipeline.distributed import joined_as_follower, leading
from compress.pipeline.failures import Failures, by_reason, failed_files, needs, unmade
from compress.pipeline.job import open_store, prepare_job
from compress.pipeline.making import make_all
from compress.pipeline.one_stage import make_one
from compress.pipeline.plan import make_plan
from compress.pipeline.process import set_up_process
from compress.pipeline.run_folder import Log
from compress.plugins import digests
from compress.recipe.schema import Recipe
from compress.stages.planned import Plan, PlannedStage
from compress.store.failures import failed_attempts, forget_failures
from compress.store.store import Store
from compress.store.workers import WorkerStatus, statuses
from compress.utils.console import duration, say
from compress.utils.errors import CompressError, SeveralFailures
from compress.utils.messages import join_words
from compress.utils.system import kind_of_processor, version_of

MAX_ATTEMPTS = 3  # by all workers together, after which a stage is given up


@dataclass(frozen=True)
class UnitState:
    """One stage of a plan: whether it is stored, and otherwise who makes it or what it waits for."""

    unit: str
    key: str
    state: str  # stored, making, failed, waiting or free
    detail: str = ""
    worker: str | None = None
    since: str | None = None  # UTC
    seconds_left: float | None = None  # of the task that is under way
    failures: tuple[str, ...] = ()


class WorkerLog(Log):
    """The log of a worker, whose events are printed as JSON lines too where somebody asks for them."""

    def __init__(self, path: Path, tell: Callable[[str], None] | None) -> None:
        super().__init__(path)
        self._tell, self._who = tell, {"host": socket.gethostname(), "process": os.getpid()}

    def write(self, event: str, **fields: Any) -> None:
        """Write an event."""
        super().write(event, **fields)
        if self._tell:
            self._tell(json.dumps({**self._who, "event": event, **fields}))


def work(
    recipe: Recipe,
    runs: Path,
    *,
    dry_run_first: bool = True,
    retry: bool = False,
    tell: Callable[[str], None] | None = None,
) -> None:
    """Make the stages of a recipe that no other process makes, until none is left.

    Args:
        retry: Forget the failures of earlier workers, and try those stages again.
        tell: Called with each event as a line of JSON.

    Raises:
        SeveralFailures: stages that could not be made, after three attempts by all workers together.
    """
    set_up_process()
    if joined_as_follower(recipe, runs):
        return
    store = open_store(runs / "store")
    job = store.job()
    if job is None:
        raise CompressError(f"{store.root} is read-only; choose another folder with --runs")
    log = WorkerLog(job.folder() / "log.jsonl", tell)
    plan = make_plan(recipe, store)
    if retry:
        for planned in plan.stages:
            forget_failures(store.root, planned.key)
    if not unmade(plan.stages, store):
        say(f"all {len(plan.stages)} stages are in the store")
        return
    prepared = prepare_job(recipe, store, log, dry_run_first=dry_run_first, for_report=False)
    with store.temporary(), leading(plan, store):
        from_others, failures = make_all(prepared, MAX_ATTEMPTS)
    _end(plan, from_others, failures)


def installed_for(planned: PlannedStage) -> dict[str, str]:
    """Return what of this machine the key of a stage may depend on."""
    versions = {name: str(version_of(name)) for name in planned.stage.packages()}
    devices = {"the processor": ", ".join(kind_of_processor()), "the GPU": ", ".join(gpu.kind())}
    return {"host": socket.gethostname(), **versions, **devices, "the code of plugins": ", ".join(digests())}


def make_unit(recipe: Recipe, runs: Path, unit: str, key: str, there: Mapping[str, str]) -> float:
    """Make one stage of a recipe, those that it needs being stored, and return the seconds that it took.

    Args:
        recipe: The recipe.
        runs: Folder of the runs.
        unit: The stage.
        key: Its key on the machine that wants it.
        there: What is installed on that machine; see `installed_for`.

    Raises:
        CompressError: it could not be made, or would be under another key here.
    """
    set_up_process()
    store = Store(runs / "store")
    job = store.job()
    if job is None:
        raise CompressError(f"{store.root} is missing or read-only on {socket.gethostname()}")
    prepared = prepare_job(recipe, store, Log(job.folder() / "log.jsonl"), dry_run_first=False, for_report=False)
    planned = prepared.plan.stage(unit)
    if planned.key != key:
        here = installed_for(planned)
        own, other = here.pop("host"), there["host"]
        differ = [
            f"{name} is {value}, not {there.get(name)}" for name, value in here.items() if value != there.get(name)
        ]
        raise CompressError(
            f"{own} would make it under another key than {other}: {'; '.join(differ) or 'files that it reads differ'}; "
            f"install on both what {other} has, or leave {own} out of the cluster"
        )
    clock = time.monotonic()
    with store.temporary():
        make_one(prepared, unit)
    return time.monotonic() - clock


def _end(plan: Plan, from_others: list[str], failures: Failures) -> None:
    if failures:
        remedy = "remove the cause, and start workers with --retry"
        raise SeveralFailures([*by_reason(failures.reasons), remedy])
    own = len(plan.stages) - len(from_others)
    say(f"all {len(plan.stages)} stages are in the store, {own} of them made here")


def status(recipe: Recipe, runs: Path) -> list[UnitState]:
    """Return the state of each stage of a recipe, without making or reading any."""
    store = Store(runs / "store")
    plan = make_plan(recipe, store)
    made = {planned.id for planned in plan.stages} - {planned.id for planned in unmade(plan.stages, store)}
    working = {each.key: each for each in statuses(store.root)}
    return [_state(planned, store, made, working.get(planned.key)) for planned in plan.stages]


def _state(planned: PlannedStage, store: Store, made: set[str], worker: WorkerStatus | None) -> UnitState:
    failed = tuple(each.error for each in failed_attempts(store.root, planned.key))
    common: dict[str, Any] = {"unit": planned.id, "key": planned.key, "failures": failed}
    missing = [name for name in needs(planned) if name not in made]
    if planned.id in made:
        lacking = failed_files(store, planned)
        return UnitState(
            state="stored", detail=f"without {join_words(list(lacking), 'and')}" if lacking else "", **common
        )
    if maker := store.maker(planned.key):
        if worker is None:
            return UnitState(state="making", worker=f"{maker[0]}:{maker[1]}", **common)
        common |= {"since": worker.since, "seconds_left": worker.seconds_left, "detail": _progress(worker)}
        return UnitState(state="making", worker=f"{worker.host}:{worker.process}", **common)
    if missing:
        return UnitState(state="waiting", detail=f"for {join_words(missing, 'and')}", **common)
    if failed:
        return UnitState(state="failed", detail=f"attempts: {len(failed)}; {failed[-1]}", **common)
    return UnitState(state="free", **common)


def _progress(worker: WorkerStatus) -> str:
    if not worker.total:
        return ""
    left = f", about {duration(worker.seconds_left)} left" if worker.seconds_left is not None else ""
    return f"{worker.task}: {worker.done} of {worker.total}{left}"
