"""What a plan would take, before it is run. Imports torch only where a network was not timed before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.table import Table

from compress.pipeline.cost_model import CostModel
from compress.pipeline.plan import Plan, make_plan
from compress.recipe.schema import Recipe
from compress.store.store import Store
from compress.utils.console import duration


def estimate(recipe: Recipe, runs: Path) -> list[dict[str, Any]]:
    """Rows `{unit, kind, stored, key, macs, seconds}` of a plan; `macs` and `seconds` are expected, 0 where stored.

    A few images go through each network to time it, so the seconds are this machine's, as busy as it was when the
    network was timed; `speeds.json` in the store keeps what they took.
    """
    store = Store(runs / "store")
    return expected(make_plan(recipe, store), store)


def expected(plan: Plan, store: Store) -> list[dict[str, Any]]:
    """The rows of `estimate`, of a plan that is there already."""
    stored, speeds = {unit.id: store.has(unit.key) for unit in plan.units}, CostModel(plan, store)
    rows = []
    for unit in plan.units:
        compute, seconds = (0, 0.0) if stored[unit.id] else speeds.expect(unit)
        rows.append(
            {
                "unit": unit.id,
                "kind": unit.stage.kind,
                "stored": stored[unit.id],
                "key": unit.key,
                "macs": int(compute),
                "seconds": round(seconds, 3),
            }
        )
    return rows


def plan_table(rows: list[dict[str, Any]]) -> Table:
    """The rows of `estimate` for a terminal."""
    table = Table(box=None, pad_edge=False)
    for heading in ("unit", "kind", "", "TMACs expected", "time expected"):
        table.add_column(heading, justify="right" if "expected" in heading else "left")
    for row in rows:
        if row["stored"]:
            table.add_row(row["unit"], row["kind"], "in the store", "", "")
        else:
            table.add_row(row["unit"], row["kind"], "runs", f"{row['macs'] / 1e12:.2f}", duration(row["seconds"]))
    compute, seconds = sum(row["macs"] for row in rows), sum(row["seconds"] for row in rows)
    table.add_row("in all", "", "", f"{compute / 1e12:.2f}", duration(seconds))
    return table
