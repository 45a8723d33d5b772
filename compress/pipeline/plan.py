"""Plan the stages of a recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from compress.data.planned_manifest import has_manifest, planned_manifest
from compress.data.prepared import ImageData, planned_data
from compress.data.sources import data_key
from compress.recipe.graph import ordered_stages
from compress.recipe.schema import Recipe
from compress.registry import runs_on_processor
from compress.stages.kind import kind_of
from compress.stages.planned import REVISION, Plan, Planner, machine
from compress.store.store import Store
from compress.utils.hashing import key_of


def make_plan(recipe: Recipe, store: Store) -> Plan:
    """Plan all stages of a recipe with their store keys; missing data or weights are a `CompressError`."""
    return plan_stages(recipe, data_key(recipe.data, recipe.seed, cache=store.root / "fingerprints.json"))


def plan_stages(recipe: Recipe, key: str) -> Plan:
    """Plan all stages of a recipe on the data with the store key `key`; missing weights are a `CompressError`."""
    planner = Planner(recipe, key)
    for stage in ordered_stages(recipe):
        planner.planned.update({planned.id: planned for planned in kind_of(stage).plan(planner)})
    stages = tuple(planner.planned.values())
    return _with_measurements(Plan(recipe, planner.data_key, stages, "", ""))


def planned_job(recipe: Recipe, store: Store) -> tuple[Plan, ImageData]:
    """Return the plan of a recipe, and its data without decoding any image; of a manifest without opening a shard."""
    if has_manifest(recipe.data):
        data = planned_manifest(recipe.data, store.root, recipe.seed)
        return plan_stages(recipe, data.key), data
    plan = make_plan(recipe, store)
    return plan, planned_data(recipe.data, store, recipe.seed, plan.data_key)


def part_of(plan: Plan, failed: Sequence[str], stages: Collection[str]) -> Plan:
    """Return a plan without the `stages` that failed; what failed has part in the keys of its measurements."""
    made = tuple(planned for planned in plan.stages if planned.id not in stages)
    return _with_measurements(replace(plan, stages=made, failed=tuple(failed)))


def host_key(plan: Plan, host: str, runtime: str) -> str:
    """Return the key of the latency of a runtime's files on another machine, which its address stands for."""
    return _measurement_key(
        plan,
        kind="latency on a host",
        host=host,
        runtime=runtime,
        units=[[planned.id, planned.key] for planned in plan.exports if runtime in planned.runtimes],
        measure=_timing(plan.recipe),
        references=plan.references,
    )


def _with_measurements(plan: Plan) -> Plan:
    """Return a plan with the keys of its latency and energy measurements."""
    recipe, runtimes = plan.recipe, {name for planned in plan.exports for name in planned.runtimes}
    common: dict[str, Any] = {
        "units": [[planned.id, planned.key] for planned in plan.stages],
        "machine": machine(recipe, runtimes),
    }
    allowed = {planned.id: loss for planned in plan.stages if (loss := planned.stage.allowed_loss) is not None}
    latency = _measurement_key(
        plan,
        kind="latency",
        measure=_timing(recipe),
        reference=next(iter(plan.references), None),
        **({"allowed": allowed} if allowed else {}),
        **common,
    )
    # before, files on GPUs had what the processor draws
    covered = {} if all(map(runs_on_processor, runtimes)) else {"devices": "covered"}
    energy = _measurement_key(plan, kind="energy", batch=max(recipe.measure.batches), **covered, **common)
    return replace(plan, latency_key=latency, energy_key=energy)


def _measurement_key(plan: Plan, **settings: Any) -> str:
    """Return the key of a measurement of a run's files: an export that lacks some is tried again under its own key."""
    return key_of(revision=REVISION, **settings, **({"failed": list(plan.failed)} if plan.failed else {}))


def _timing(recipe: Recipe) -> dict[str, Any]:
    return recipe.measure.model_dump(include={"batches", "rounds", "processes", "threads"})
