"""Estimate compute and time of a plan before it runs. Imports torch only to time networks that are not cached."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from compress.data.prepared import ImageData, planned_data
from compress.pipeline.dry_run import dry_run, dry_run_seconds
from compress.pipeline.plan import make_plan
from compress.recipe.schema import Recipe
from compress.stages.costs import Cost, CostModel
from compress.stages.planned import Plan
from compress.store.store import Store
from compress.utils.console import duration
from compress.utils.system import limit_threads


@dataclass(frozen=True)
class PlanRow:
    """Estimate of one planned stage."""

    unit: str  # id of the stage; `STAGE/VARIANT` for the export of a variant
    kind: str  # kind of the stage
    stored: bool  # whether the store has it
    key: str  # its key in the store
    macs: int  # expected MACs, 0 if stored
    seconds: float  # expected time on this machine, 0 if stored


def estimate(recipe: Recipe, runs: Path, *, dry_run_first: bool = False) -> list[PlanRow]:
    """Estimate compute and time of running a recipe.

    Every network is timed on a few images, so seconds are those of this machine under its load at that time. Timings
    are cached in `speeds.json` in the store. If `dry_run_first`, stages are made on a few images; see `dry_run`.
    """
    limit_threads()
    store = Store(runs / "store")
    plan = make_plan(recipe, store)
    data = planned_data(recipe.data, store, recipe.seed, plan.data_key)
    if dry_run_first:
        dry_run(plan, store, data)
    return expected(plan, store, data)


def expected(plan: Plan, store: Store, data: ImageData) -> list[PlanRow]:
    """Estimate compute and time of a plan."""
    stored = {planned.id: store.has(planned.key) for planned in plan.stages}
    costs = CostModel(plan, store, data, dry_run_seconds(plan, store, data))
    rows = []
    for planned in plan.stages:
        cost = Cost(0, 0.0) if stored[planned.id] else costs.expect(planned)
        rows.append(
            PlanRow(
                unit=planned.id,
                kind=planned.stage.kind,
                stored=stored[planned.id],
                key=planned.key,
                macs=int(cost.macs),
                seconds=round(cost.seconds, 3),
            )
        )
    return rows


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
