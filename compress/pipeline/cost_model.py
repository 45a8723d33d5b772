"""Estimate compute and time of a plan before it runs. Imports torch only to time networks that are not cached."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from compress.data.corruptions import CorruptedImages, conditions
from compress.data.ood import list_ood
from compress.data.planned_manifest import has_manifest
from compress.data.prepared import ImageData
from compress.deployment.runtimes import find_runtime
from compress.measurement.counters import find_counter
from compress.measurement.latency import MIN_SAMPLE_MS, TAIL_MAX_MS, TAIL_TIMINGS
from compress.pipeline.dry_run import dry_run, dry_run_seconds
from compress.pipeline.file_units import FileUnit, expected_passes, lacking_passes
from compress.pipeline.ood import ood_units
from compress.pipeline.plan import planned_job
from compress.pipeline.preflight import check_sizes
from compress.pipeline.robustness import corruption_units
from compress.recipe.measure import Corruption
from compress.recipe.schema import Recipe
from compress.stages.costs import Cost, CostModel
from compress.stages.planned import Plan, PlannedStage
from compress.store.store import Store
from compress.utils.console import duration
from compress.utils.errors import CompressError
from compress.utils.system import limit_threads

TIMED_IMAGES = 4  # that are corrupted to know how long it takes
START_S = 5.0  # of a process that loads a runtime and files, with two cores
ENERGY_S = 10.0  # of a network or file


@dataclass(frozen=True)
class PlanRow:
    """Estimate of one planned stage, or of an evaluation on further images."""

    unit: str  # id of the stage; `STAGE/VARIANT` for the export of a variant
    kind: str  # kind of the stage; `measure` for timing, and an evaluation on further images
    stored: bool  # whether the store has it
    key: str  # its key in the store; empty for such an evaluation, which has several
    macs: int  # expected MACs, 0 if stored
    seconds: float  # expected time on this machine, 0 if stored
    embedding_shards: int = 0  # shards of teacher embeddings to make, over all views
    embedding_bytes: int = 0  # which those take


def estimate(recipe: Recipe, runs: Path, *, dry_run_first: bool = False) -> list[PlanRow]:
    """Estimate compute and time of running a recipe.

    Every network is timed on a few images, so seconds are those of this machine under its load at that time. Timings
    are cached in `speeds.json` in the store. If `dry_run_first`, stages are made on a few images; see `dry_run`.
    """
    limit_threads()
    store = Store(runs / "store")
    plan, data = planned_job(recipe, store)
    check_sizes(recipe, data)
    if dry_run_first:
        dry_run(plan, store, data, check_space=not has_manifest(recipe.data))
    return expected(plan, store, data)


def expected(plan: Plan, store: Store, data: ImageData) -> list[PlanRow]:
    """Estimate compute and time of a plan."""
    stored = {planned.id: store.has(planned.key) for planned in plan.stages}
    costs = CostModel(plan, store, data, dry_run_seconds(plan, store, data))
    rows = []
    for planned in plan.stages:
        before = costs.embedding_shards, costs.embedding_bytes
        cost = Cost(0, 0.0) if stored[planned.id] else costs.expect(planned)
        rows.append(
            PlanRow(
                unit=planned.id,
                kind=planned.stage.kind,
                stored=stored[planned.id],
                key=planned.key,
                macs=int(cost.macs),
                seconds=round(cost.seconds, 3),
                embedding_shards=costs.embedding_shards - before[0],
                embedding_bytes=costs.embedding_bytes - before[1],
            )
        )
    complete = all(stored.values())
    rows += [_latency(plan, store, costs), *_energy(plan, store)]
    return [*rows, *_corruptions(plan, store, data, costs, complete), *_ood(plan, store, data, costs, complete)]


def _latency(plan: Plan, store: Store, costs: CostModel) -> PlanRow:
    """Estimate the timing of all networks and files, by networks in FP32; files are mostly faster."""
    if store.exists(plan.latency_key):
        return PlanRow("latency of files", "measure", True, plan.latency_key, 0, 0.0)
    measure, runs = plan.recipe.measure, 0.0
    runtimes = {name for export in plan.exports for name in export.runtimes if not find_runtime(name).runs_on}
    for variant, count in expected_passes(plan):
        with suppress(CompressError):  # a stored network whose device or weights this machine lacks is not timed
            image = costs.inference(variant, 1).seconds
            for once in (batch * image for batch in measure.batches):
                tail = TAIL_TIMINGS * once if 1000 * once <= TAIL_MAX_MS else 0.0
                runs += count * max(tail, measure.rounds * (MIN_SAMPLE_MS / 1000 + 2 * once))
    starts = measure.processes * (1 + len(runtimes)) + len(plan.variants)  # of PyTorch, and for the peak memory
    return PlanRow("latency of files", "measure", False, plan.latency_key, 0, round(START_S * starts + runs, 3))


def _energy(plan: Plan, store: Store) -> list[PlanRow]:
    """Estimate the measurement of energy; nothing where the machine has no counter."""
    if plan.recipe.measure.energy == "off" or find_counter().counter is None:
        return []
    seconds = ENERGY_S * sum(count for _, count in expected_passes(plan))
    stored = store.exists(plan.energy_key)
    return [PlanRow("energy of files", "measure", stored, plan.energy_key, 0, 0.0 if stored else seconds)]


def _corruptions(plan: Plan, store: Store, data: ImageData, costs: CostModel, complete: bool) -> list[PlanRow]:
    """Estimate the evaluation on corrupted images; nothing where the recipe names no corruptions."""
    if not plan.recipe.measure.corruption_names:
        return []
    wanted, n = conditions(plan.recipe.measure.corruption_names), len(data.test)
    passes = _passes(plan, store, corruption_units(plan, store) if complete else None)
    corrupting = n * _corruption_seconds(data, wanted) if passes else 0.0
    return [_row("corruptions", costs, passes, n * (1 + len(wanted)), corrupting)]


def _ood(plan: Plan, store: Store, data: ImageData, costs: CostModel, complete: bool) -> list[PlanRow]:
    """Estimate the scores of OOD images; nothing where the recipe names none."""
    if plan.recipe.measure.ood is None:
        return []
    folder = list_ood(plan.recipe.measure.ood, plan.recipe.data, data.resolution, store)
    passes = _passes(plan, store, ood_units(plan, store, folder.key) if complete else None)
    return [_row("OOD images", costs, passes, len(data.test) + len(folder.files))]


Passes = list[tuple[PlannedStage, int]]
"""Variants, with the number of their networks and files to evaluate."""


def _passes(plan: Plan, store: Store, units: Sequence[FileUnit] | None) -> Passes:
    """Return what is left to evaluate; `units` are known where all stages are stored."""
    return expected_passes(plan) if units is None else lacking_passes(plan, store, units)


def _row(what: str, costs: CostModel, passes: Passes, images: int, seconds_each: float = 0.0) -> PlanRow:
    """Estimate an evaluation on so many images, which are made in `seconds_each` for every pass."""
    seconds = sum(count * (seconds_each + costs.inference(variant, images).seconds) for variant, count in passes)
    return PlanRow(what, "measure", not passes, "", 0, round(seconds, 3))


def _corruption_seconds(data: ImageData, wanted: Sequence[tuple[Corruption, int]]) -> float:
    """Time all corruptions of one test image, by the first few."""
    rows = np.arange(min(TIMED_IMAGES, len(data.test)))
    started = time.perf_counter()
    for corruption, severity in wanted:
        CorruptedImages(data.test.images, corruption, severity, 0)[rows]
    return (time.perf_counter() - started) / max(1, len(rows))


def plan_summary(rows: list[PlanRow], price_per_hour: float | None) -> list[str]:
    """Describe all rows together: units of work, bytes of teacher embeddings, hours, and price if one is given."""
    left = [row for row in rows if not row.stored]
    shards, size = sum(row.embedding_shards for row in left), sum(row.embedding_bytes for row in left)
    hours = sum(row.seconds for row in left) / 3600
    units = f"units: {len(left) + shards:,}: {len(left):,} stages and measurements"
    lines = [units + (f", {shards:,} shards of teacher embeddings" if shards else "")]
    if shards:
        lines.append(f"teacher embeddings: {size / 1e9:,.2f} GB in fp16")
    lines.append(f"time: {hours:,.2f} h on this machine")
    if price_per_hour is not None:
        lines.append(f"price: {hours * price_per_hour:,.2f}, at {price_per_hour:g} per hour of this machine")
    return lines


def plan_table(rows: list[PlanRow]) -> Table:
    """Format the rows as a table for the terminal."""
    table = Table(box=None, pad_edge=False)
    for heading in ("unit", "kind", "", "TMACs expected", "time expected"):
        table.add_column(heading, justify="right" if "expected" in heading else "left")
    for row in rows:
        if row.stored:
            table.add_row(row.unit, row.kind, "in the store", "", "")
        else:
            table.add_row(row.unit, row.kind, "runs", f"{row.macs / 1e12:.2f}", duration(row.seconds))
    macs, seconds = sum(row.macs for row in rows), sum(row.seconds for row in rows)
    table.add_row("total", "", "", f"{macs / 1e12:.2f}", duration(seconds))
    return table
