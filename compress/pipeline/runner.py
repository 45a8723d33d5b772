"""Runs a plan: takes what the store has, makes the rest, measures, and writes the run's folder."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.runtimes import require_whole, thread_count, torch_threads
from compress.measurement.counters import CounterError, CounterLookup, find_counter
from compress.pipeline.collect import collect
from compress.pipeline.data_checks import check_data
from compress.pipeline.distributed import WaitingStore, follow, is_follower, several
from compress.pipeline.eta import TimeLeft
from compress.pipeline.plan import Plan, PlannedStage, make_plan
from compress.pipeline.preflight import check_needs
from compress.recipe.schema import Recipe
from compress.report import write_report
from compress.store.store import Store
from compress.utils import console as progress
from compress.utils.atomic import write_atomic
from compress.utils.checksums import write_sums
from compress.utils.console import console, duration, say
from compress.utils.errors import CompressError, UsageError

if TYPE_CHECKING:
    from compress.stages.context import StageContext


def run(recipe: Recipe, runs: Path = Path("runs"), *, fresh: bool = False, loggers: Sequence[str] = ()) -> Path:
    """Run a recipe and return the folder of the run, with `results.json` and the pages made from it.

    Args:
        runs: folder of all runs and of the store that they share.
        fresh: take nothing that an earlier run stored; what is made now is stored apart, under the run's own folder.
        loggers: `csv`, `tensorboard` or both: loss, rate and accuracy of the fits go into `logs/` of the run's folder.

    Raises:
        CompressError: a stage failed; what was finished before it stays in the store.
    """
    if fresh and several(recipe.trainer):
        raise UsageError("--fresh needs `trainer.devices: 1`: further processes take what is finished from the store")
    if is_follower(recipe):
        shared = WaitingStore(runs / "store")
        follow(make_plan(recipe, shared), shared)
        raise SystemExit(0)
    started, clock = datetime.now(UTC), time.monotonic()
    folder = _new_folder(runs, recipe, started)
    log = Log(folder / "log.jsonl")
    try:
        check_needs(recipe.stages)
        if loggers:
            from compress.training.loggers import check_loggers

            check_loggers(loggers)
        store = Store(folder / "store" if fresh else runs / "store")
        store.root.mkdir(parents=True, exist_ok=True)
        store.job(folder)
        store.on_use = lambda key: log.write("uses", key=key)
        plan = make_plan(recipe, store)
        log.write("plan", units={unit.id: unit.key for unit in plan.units})
        # A second run, which makes nothing, need not import them.
        check_needs([unit.stage for unit in plan.units if not store.has(unit.key)], require_whole)
        remarks = check_data(recipe, store)
        for remark in remarks:
            say(f"data: {remark}")
        with store.temporary():
            from_store = _make_all(plan, store, log, loggers)
            _measure(plan, store, log)
            counter = find_counter() if recipe.measure.energy == "auto" else CounterLookup(None, "not asked")
            _measure_energy(plan, store, counter, log)
        made = [unit.id for unit in plan.units if unit.id not in from_store]
        began = started.isoformat(timespec="seconds")
        info = {"id": folder.name, "started": began, "made": made, "from_store": from_store}
        results = collect(plan, store, info, command=shlex.join(["compress-model", *sys.argv[1:]]))
        results["environment"]["energy_counter"] = counter.detail
        results["data"]["remarks"] = remarks
        _copy_artifacts(plan, store, folder)
        results["run"]["wall_s"] = round(time.monotonic() - clock, 3)
        write_atomic(folder / "recipe.yaml", _yaml(results["recipe"]["resolved"]))
        write_atomic(folder / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
        write_report(results, folder)
        log.write("done", wall_s=results["run"]["wall_s"])
        write_sums(folder, leave_out=["store"])
    except BaseException as error:
        with suppress(OSError):  # of a full disk, which the error itself tells of
            log.write("failed", error=f"{type(error).__name__}: {error}")
        raise
    return folder


class Log:
    """`log.jsonl`: one JSON object a line, for machines."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a") as file:
            file.write(json.dumps({"time": now, "event": event, **fields}) + "\n")


def _new_folder(runs: Path, recipe: Recipe, started: datetime) -> Path:
    """A folder that no other run has, even one that starts in the same second."""
    parent = runs / recipe.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressError(f"the runs folder {parent} cannot be made: {error.strerror}") from error
    name = started.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise CompressError(f"{parent} has a thousand runs of this second")


def _make_all(plan: Plan, store: Store, log: Log, loggers: Sequence[str]) -> list[str]:
    """Make the units that the store lacks, with the time that is left of all of them on a terminal.

    Returns:
        The ids of those that the store had.
    """
    work = None if all(store.has(unit.key) for unit in plan.units) else _work(plan, store, log, loggers)
    left = _expected(work) if work and console.is_terminal else None
    stored = []
    for number, unit in enumerate(plan.units, 1):
        place = f"[{number}/{len(plan.units)}]"
        if work is None or store.has(unit.key):
            say(f"{place} {unit.id}: taken from the store")
            log.write("stored", unit=unit.id, key=unit.key)
            stored.append(unit.id)
            continue
        say(f"{place} {unit.id}: {_doing(unit)}")
        progress.later = left.after(unit.id) if left else None
        seconds = _make(work, unit, log)
        say(f"  done in {seconds:.0f} s")
        if left:
            left.done(unit.id, seconds)
    return stored


def _work(plan: Plan, store: Store, log: Log, loggers: Sequence[str]) -> StageContext:
    from compress.stages.context import StageContext
    from compress.training.loggers import Watch

    return StageContext(plan, store, Watch(log.write, tuple(loggers), log.path.parent / "logs"))


def _expected(work: StageContext) -> TimeLeft:
    """What the units will take: finding out takes some seconds, and so it is left out where nobody looks on."""
    from compress.pipeline.estimate import expected

    rows = expected(work.plan, work.store)
    say(f"about {duration(sum(row['seconds'] for row in rows))} in all, as `compress-model plan` shows it")
    return TimeLeft(rows)


def _make(work: StageContext, unit: PlannedStage, log: Log) -> float:
    """Make a unit, and return the seconds that it took."""
    import torch

    from compress.stages.export import make_export
    from compress.stages.makers import MAKERS

    log.write("start", unit=unit.id, key=unit.key)
    clock = time.monotonic()
    maker = make_export if unit.is_export else MAKERS[unit.stage.kind]
    try:
        with torch_threads(torch.get_num_threads()):  # a library or a plugin may change it
            work.store.get(unit.key, unit.id, lambda folder: maker(work, unit, folder))
    except CompressError as error:
        raise type(error)(f"stage {unit.id}: {error}") from error
    seconds = time.monotonic() - clock
    log.write("made", unit=unit.id, key=unit.key, seconds=round(seconds, 3))
    if not unit.is_export:
        for back in work.metrics(unit.id)["training"].get("diverged", []):
            log.write("diverged", unit=unit.id, **back)
    return seconds


def _measure(plan: Plan, store: Store, log: Log) -> None:
    if store.has(plan.latency_key):
        say("latency: taken from the store")
        return
    from compress.stages.context import StageContext
    from compress.stages.export import measure_latency

    say(f"latency: all variants in turns, {plan.recipe.measure.rounds} rounds")
    with torch_threads(thread_count(plan.recipe.measure.threads)):
        store.get(plan.latency_key, "latency", lambda folder: measure_latency(StageContext(plan, store), folder))
    log.write("made", unit="latency", key=plan.latency_key)


def _measure_energy(plan: Plan, store: Store, found: CounterLookup, log: Log) -> None:
    """Measure where there is a counter. One that fails is said, and the run goes on: the energy is then not known."""
    counter = found.counter
    if counter is None:
        log.write("no energy counter", reason=found.detail)
        return
    if store.has(plan.energy_key):
        say("energy: taken from the store")
        return
    from compress.benchmark.energy import measure_energies
    from compress.stages.context import StageContext

    say(f"energy: {counter.name}, some ten seconds a variant and runtime")
    try:
        with torch_threads(thread_count(plan.recipe.measure.threads)):
            store.get(
                plan.energy_key, "energy", lambda folder: measure_energies(StageContext(plan, store), counter, folder)
            )
        log.write("made", unit="energy", key=plan.energy_key)
    except CounterError as error:
        say(f"energy: not measured: {error}")
        log.write("no energy", reason=str(error))


def _doing(unit: PlannedStage) -> str:
    table = {
        "teacher": "measuring the teacher",
        "train": "training on labels",
        "distill": f"distilling {unit.parent}",
        "prune": f"pruning {unit.parent}",
        "sparsify": f"setting weights of {unit.parent} to zero",
        "shrink": f"training the control of {unit.parent}",
        "quantize": f"quantizing {unit.parent}",
        "export": "writing its files",
    }
    return table[unit.stage.kind]


def _copy_artifacts(plan: Plan, store: Store, folder: Path) -> None:
    """Artifacts of the run, and models for Triton: links into the store where the file system has them, else copies."""
    for unit in plan.exports:
        assert unit.parent
        entry = store.path(unit.key)
        shutil.copytree(
            entry / "artifacts", folder / "artifacts" / unit.parent, copy_function=_link, dirs_exist_ok=True
        )
        if (entry / "triton").is_dir():
            shutil.copytree(entry / "triton", folder / "triton", copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _yaml(resolved: dict[str, Any]) -> str:
    import yaml

    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True)
