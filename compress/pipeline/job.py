"""What a run or a worker needs before it makes stages: store, plan, checked data, and a dry run that passed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from compress.data.left_out import left_out_line
from compress.data.ood import OodImages, prepare_ood
from compress.data.prepared import ImageData, prepare
from compress.deployment.runtimes import require_whole
from compress.pipeline.dry_run import dry_run
from compress.pipeline.failures import to_make, unmade
from compress.pipeline.hosts import check_hosts
from compress.pipeline.plan import make_plan
from compress.pipeline.preflight import check_batches, check_compilers, check_data, check_requirements, tail_batches
from compress.pipeline.run_folder import Log
from compress.recipe.data import FileData
from compress.recipe.schema import Recipe
from compress.stages.kind import kind_of
from compress.stages.planned import Plan, PlannedStage
from compress.store.file_systems import require_maps
from compress.store.store import Store
from compress.store.workers import remove_ended
from compress.training.trackers import Trackers, check_trackers
from compress.utils.console import say
from compress.utils.processes import require_main_guard

if TYPE_CHECKING:
    from compress.stages.context import StageContext


@dataclass(frozen=True)
class Job:
    """What making the stages of a plan needs. The context, which imports torch, is created on demand."""

    plan: Plan
    store: Store
    data: ImageData
    log: Log
    trackers: Trackers = field(default_factory=Trackers)
    remarks: tuple[str, ...] = ()  # on the data
    ood: OodImages | None = None  # of `measure.ood`

    def context(self) -> StageContext:
        from compress.stages.context import StageContext
        from compress.training.loggers import FitLoggers

        return StageContext(self.plan, self.store, self.data, FitLoggers(self.log.write, self.trackers))


def open_store(root: Path) -> Store:
    """Open a store to make stages in; a file system without memory maps is a `CompressError`."""
    root.mkdir(parents=True, exist_ok=True)
    require_maps(root)
    remove_ended(root)
    return Store(root)


def prepare_job(
    recipe: Recipe,
    store: Store,
    log: Log,
    trackers: Trackers | None = None,
    *,
    dry_run_first: bool = True,
    for_report: bool = True,
) -> Job:
    """Plan a recipe, and check all that can be checked before a stage is made.

    Args:
        for_report: Whether stages in the store will be read and measured: damaged ones, and exports that lack files,
            are made again.

    Raises:
        CompressError: data, weights, packages or devices are missing, a stage cannot work, or the script that runs
            it lacks a `__main__` guard that it needs.
    """
    check_requirements(recipe, [kind_of(stage) for stage in recipe.stages])
    trackers = trackers or Trackers()
    check_trackers(trackers.names)
    plan = make_plan(recipe, store)
    store.reserve(planned.key for planned in plan.stages)
    log.write("plan", units={planned.id: planned.key for planned in plan.stages})
    lacking = to_make(plan.stages, store) if for_report else unmade(plan.stages, store)
    check_requirements(recipe, [each.stage for each in lacking], require_whole)  # a cached run needs no runtimes
    if lacking:
        _check_device(recipe, log)
        check_compilers(recipe, [each.stage for each in lacking])
        check_batches(_with_devices(recipe), {each.id for each in lacking})
        _check_script(recipe, lacking)
    if for_report:
        check_hosts(plan, store)
    data, remarks = prepare_data(recipe, store, log, {each.id for each in lacking})
    ood = prepare_ood_images(recipe, data, store, log) if for_report else None
    if dry_run_first:
        dry_run(plan, store, data)
    return Job(plan, store, data, log, trackers, tuple(remarks), ood)


def _check_device(recipe: Recipe, log: Log) -> None:
    """Find the devices of the recipe, or raise what is wrong with them; one that is not the CPU is said."""
    from compress.measurement.device import choose_device, describe

    device = choose_device(recipe.trainer)
    log.write("device", device=describe(device))
    if device.type != "cpu":
        say(f"device: {describe(device)}")


def _with_devices(recipe: Recipe) -> Recipe:
    """Return the recipe with the number of devices that `auto` stands for here; store keys have `auto`."""
    if recipe.trainer.devices != "auto":
        return recipe
    from compress.measurement.device import with_devices

    return recipe.model_copy(update={"trainer": with_devices(recipe.trainer)})


def prepare_ood_images(recipe: Recipe, data: ImageData, store: Store, log: Log) -> OodImages | None:
    """Return the images of `measure.ood`, if it names a folder; what of it was left out is said and logged."""
    if not recipe.measure.ood:
        return None
    ood = prepare_ood(recipe.measure.ood, recipe.data, data, store)
    if ood.left_out:
        say(f"measure.ood: left out {left_out_line(ood.left_out)}")
    log.write("ood", images=len(ood.images), left_out=[asdict(row) for row in ood.left_out])
    return ood


def _check_script(recipe: Recipe, lacking: Sequence[PlannedStage]) -> None:
    """Refuse a script that the processes which decode batches would run again; see `require_main_guard`."""
    data = recipe.data
    decodes = isinstance(data, FileData) and data.images == "files" and data.workers != 0
    if decodes and any(each.stage.joined_by_devices() for each in lacking):
        require_main_guard()


def prepare_data(recipe: Recipe, store: Store, log: Log, made: Collection[str]) -> tuple[ImageData, list[str]]:
    """Return the checked data and the remarks on it; both, and what of the source was left out, are said and logged.

    How many devices `auto` stands for is known of the stages `made` here alone.
    """
    data = prepare(recipe.data, store, recipe.seed)
    counted = made if recipe.trainer.devices == "auto" else [stage.id for stage in recipe.stages]
    data = replace(data, left_out=(*data.left_out, *tail_batches(_with_devices(recipe), data, counted)))
    if data.left_out:
        say(f"data: left out {left_out_line(data.left_out)}")
    remarks = check_data(recipe, data, store)
    for remark in remarks:
        say(f"data: {remark}")
    log.write("data", left_out=[asdict(row) for row in data.left_out], remarks=remarks)
    return data, remarks
