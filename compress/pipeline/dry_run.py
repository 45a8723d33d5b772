"""Dry run: every stage made once on a few images of noise, so that what cannot work is refused before it is paid for.

The stages' own code makes them, in a temporary store, with their own networks, losses, targets, quantizers and
runtimes; only numbers of images, steps and repetitions are small. What passed is remembered in the store.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.data.ood import prepare_ood
from compress.data.planned_manifest import has_manifest
from compress.data.prepared import ImageData, Split, prepare
from compress.data.splits import HELD_OUT
from compress.pipeline.disk_space import Footprint, expected_bytes, footprint
from compress.pipeline.failures import by_reason, failed_files, unmade
from compress.pipeline.plan import plan_stages, planned_job
from compress.pipeline.preflight import check_data, check_sizes
from compress.pipeline.process import set_up_process
from compress.recipe.schema import Recipe
from compress.stages.kind import kind_of
from compress.stages.planned import Plan, PlannedStage
from compress.store.leases import alone
from compress.store.store import Store
from compress.utils.console import muted, say, task
from compress.utils.errors import CompressError, SeveralErrors, first_line
from compress.utils.hashing import key_of
from compress.utils.json_cache import load_cache, save_cache
from compress.utils.machine_faults import is_machine_fault
from compress.utils.quiet import quiet
from compress.utils.system import free_bytes
from compress.utils.time_limit import shortened

if TYPE_CHECKING:
    from compress.stages.context import StageContext

REVISION = 5  # raised when a dry run checks more
SECTION, PASSED = "passed", "preflight.json"  # in the store
# one train image more than a step has: some losses compare with images outside of it
IMAGES = {"train": 5, "unlabeled": 4, "validation": 2, "test": 2, HELD_OUT: 2}
TIME_SHARE = 0.5  # of the time that libraries may take, so that what passes here is not refused in the run for it
BYPASS = "`--no-dry-run` skips this check"


def dry_run(plan: Plan, store: Store, data: ImageData, *, check_space: bool = True) -> None:
    """Make the stages that the store lacks once, with a few images; those that passed before are not made again.

    Args:
        check_space: Whether to refuse stages that need more space than the disk has.

    Raises:
        SeveralErrors: stages that cannot work, each with the reason.
        CompressError: the stages need more space than the disk has.
    """
    small, planned = _small(plan, data)
    lacking = unmade(plan.stages, store)
    ids = {each.id for each in lacking}
    wanted = [each for each in planned.stages if each.id in ids]
    passed = _load(store)
    if any(each.key not in passed for each in wanted):
        passed = _try(planned, small, wanted, store)
    footprints = {each.id: passed[each.key] for each in wanted if each.key in passed}
    if check_space:
        _check_space(expected_bytes(lacking, footprints, data), store)


def _try(planned: Plan, small: ImageData, wanted: Sequence[PlannedStage], store: Store) -> dict[str, Footprint]:
    """Try the stages that are not known to work, and return what is known then; other workers wait for it."""
    with alone(store.root, "dry-run"):
        passed = _load(store)
        unknown = [each for each in wanted if each.key not in passed]
        if not unknown:
            return passed
        known = {each.id: passed[each.key] for each in planned.stages if each.key in passed}
        outcome = _Outcome(known)
        try:
            _run(planned, small, unknown, store, outcome)
        finally:  # what passed before an interruption is not tried again
            passed |= {each.key: outcome.footprints[each.id] for each in unknown if each.id in outcome.footprints}
            save_cache(store.root / PASSED, SECTION, {key: vars(took) for key, took in passed.items()})
        if outcome.problems:
            raise SeveralErrors(
                f"{line} (found in a dry run; {BYPASS})" for line in by_reason(outcome.problems.items())
            )
        return passed


def dry_run_seconds(plan: Plan, store: Store, data: ImageData) -> dict[str, float]:
    """Return the seconds that stages took in a dry run, by id, as far as the store knows."""
    if not (passed := _load(store)):
        return {}
    seconds = {each.id: passed[each.key].seconds for each in _small(plan, data)[1].stages if each.key in passed}
    return {name: taken for name, taken in seconds.items() if taken is not None}


def _small(plan: Plan, data: ImageData) -> tuple[ImageData, Plan]:
    """Return the data and the plan of a dry run."""
    small = _small_data(data)
    return small, plan_stages(_small_recipe(plan.recipe), small.key)


def _load(store: Store) -> dict[str, Footprint]:
    known = load_cache(store.root / PASSED, SECTION, "stages are checked again")
    found = {}
    for key, took in known.items():
        with suppress(TypeError):  # of another version of this package
            found[key] = Footprint(**took)
    return found


def _run(plan: Plan, data: ImageData, unknown: Sequence[PlannedStage], store: Store, outcome: _Outcome) -> None:
    """Make stages of which it is not known whether they work."""
    say(f"dry run of {_count(len(unknown))} on a few images, once for these settings")
    clock = time.monotonic()
    with store.temporary():
        _make(plan, data, unknown, outcome)
    say(f"  done in {time.monotonic() - clock:.0f} s")


def _check_space(needed: int, store: Store) -> None:
    free = free_bytes(store.root)
    if needed > free:
        takes = f"the stages take about {needed / 1e9:.1f} GB in {store.root}, of {free / 1e9:.1f} GB that are free"
        raise CompressError(f"{takes}; free some, or choose another folder with --runs ({BYPASS})")


def try_recipe(recipe: Recipe, runs: Path) -> None:
    """Check the data of a recipe whose runs are in `runs`, and do its dry run.

    Data behind a manifest is not read.
    """
    set_up_process()
    store = Store(runs / "store")
    plan, data = planned_job(recipe, store)
    if has_manifest(recipe.data):
        check_sizes(recipe, data)
        dry_run(plan, store, data, check_space=False)
        return
    data = prepare(recipe.data, store, recipe.seed)
    check_data(recipe, data, store)
    if recipe.measure.ood:
        prepare_ood(recipe.measure.ood, recipe.data, data, store)
    dry_run(plan, store, data)


def _count(stages: int) -> str:
    return "a stage" if stages == 1 else f"{stages} stages"


@dataclass(frozen=True)
class _Outcome:
    """What came of a dry run so far, by ids of stages."""

    footprints: dict[str, Footprint]  # of those that work, now or in an earlier dry run
    problems: dict[str, str] = field(default_factory=dict)  # why others do not


def _make(plan: Plan, data: ImageData, unknown: Sequence[PlannedStage], outcome: _Outcome) -> None:
    """Make stages and those that they start from, and write down what comes of it."""
    import torch

    from compress.measurement.device import choose_device, forked_rng
    from compress.measurement.threads import torch_threads
    from compress.stages.context import StageContext

    device = choose_device(plan.recipe.trainer)
    names = {name for each in unknown for name in _lineage(plan, each)}
    needed = [(each, _covers(plan, each)) for each in plan.stages if each.id in names]
    with (
        tempfile.TemporaryDirectory() as folder,
        quiet(),
        forked_rng(device),
        task("stages", len(needed), bar=False) as advance,
    ):
        context = StageContext(plan, Store(Path(folder)), data)
        for planned, covers in sorted(needed, key=lambda pair: bool(pair[1])):  # those that others may spare last
            if covers & outcome.footprints.keys():
                outcome.footprints.setdefault(planned.id, Footprint(0))
            elif not _lineage(plan, planned) & outcome.problems.keys():
                clock = time.monotonic()
                with muted(), torch_threads(torch.get_num_threads()), shortened(TIME_SHARE):
                    problem = _make_one(context, planned)
                if problem:
                    outcome.problems[planned.id] = problem
                else:
                    outcome.footprints[planned.id] = footprint(context.store, planned, time.monotonic() - clock)
            advance()


def _make_one(context: StageContext, planned: PlannedStage) -> str:
    """Make a stage and return why it cannot be made, empty if it can."""
    make = planned.stage.load_maker()
    try:
        context.store.get(planned.key, planned.id, lambda folder: make(context, planned, folder))
    except CompressError as error:
        return str(error)
    except Exception as error:  # what a library raises for what it cannot do
        if is_machine_fault(error):
            raise
        return f"{type(error).__name__}: {first_line(error)}; choose another network or other settings for this stage"
    return "; ".join(f"{runtime}: {reason}" for runtime, reason in failed_files(context.store, planned).items())


def _covers(plan: Plan, planned: PlannedStage) -> set[str]:
    """Return the exports of variants made from this export's variant, to the same files or more.

    If one of them can be made, so can this one: both are converted from like graphs, and a conversion takes seconds.
    """
    if planned.makes_variant or not planned.parent:
        return set()
    files = set(planned.files)
    others = (each for each in plan.exports if each is not planned and files <= set(each.files))
    return {each.id for each in others if planned.parent in _made_from(plan, each.parent)}


def _made_from(plan: Plan, variant: str | None) -> Iterator[str]:
    """Yield the variants whose networks a variant's network was made from, the nearest first."""
    while variant and not plan.stage(variant).stage.brings_network:
        variant = plan.stage(variant).stage.network_from()
        if variant:
            yield variant


def _lineage(plan: Plan, planned: PlannedStage) -> set[str]:
    """Return the ids of a stage and of all whose entries it, or one of them, reads."""
    found: set[str] = set()
    waiting: list[str | None] = [planned.id]
    while waiting:
        name = waiting.pop()
        if name and name not in found:
            found.add(name)
            waiting += [plan.stage(name).parent, plan.stage(name).teacher]
    return found


def _small_recipe(recipe: Recipe) -> Recipe:
    stages = [kind_of(stage).for_dry_run() for stage in recipe.stages]
    trainer = recipe.trainer.model_copy(
        update={"devices": 1, "num_nodes": 1, "strategy": "auto"}
        | ({"precision": "32-true"} if recipe.trainer.precision == "auto" else {})
    )
    return recipe.model_copy(update={"stages": stages, "trainer": trainer})


def _small_data(data: ImageData) -> ImageData:
    """Return a few images of noise for each split that has any, with classes and side of the data."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, most in IMAGES.items():
        part: Split | None = getattr(data, name)
        if part is None:
            continue
        count, names = min(most, len(part)), data.held_names if name == HELD_OUT else data.classes
        images = rng.integers(0, 256, (count, 3, data.resolution, data.resolution), np.uint8)
        splits[name] = Split(images, None if part.labels is None else np.arange(count) % len(names))
    sizes = {name: len(split) for name, split in splits.items()}
    held = {"held_out": data.held_names} if data.held_names else {}
    key = key_of(dry_run=REVISION, classes=data.classes, side=data.resolution, images=sizes, **held)
    return replace(data, **splits, key=key, skipped=0, originals=None)  # type: ignore[arg-type]
