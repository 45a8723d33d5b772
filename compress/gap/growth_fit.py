"""Growth rates that are computed from tables of published points, never typed."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from compress.efficiency.doublings import doublings
from compress.efficiency.trends import fit_growth, months_per_doubling
from compress.gap.points import Points, read_points
from compress.utils.errors import UsageError
from compress.utils.resources import shipped

Record = dict[str, Any]

CONFIDENCE = 0.95
COMPUTE = "training compute"

SHIPPED = {
    "models": ("ai-and-compute.csv", "OpenAI, AI and Compute (2018)"),
    "hardware": ("hardware.csv", "vendors' datasheets, named row by row in the table"),
}

HERNANDEZ_AND_BROWN = (
    "Hernandez and Brown, Measuring the Algorithmic Efficiency of Neural Networks, arXiv 2005.04305 (2020)"
)


def fits_of_tables(models: Path | None, hardware: Path | None, since: float) -> list[Record]:
    """Growth of every quantity of the two tables, the shipped ones where none is given.

    Raises:
        UsageError: A given table cannot be used.
    """
    fits = []
    for kind, given in (("models", models), ("hardware", hardware)):
        name, source = SHIPPED[kind]
        path = given or shipped("configs") / "trends" / "points" / name
        found = [
            _fit(points, path.name if given is None else str(given), source if given is None else None)
            for points in read_points(path, kind, since)
        ]
        if all(fit["growth"] is None for fit in found):
            raise UsageError(f"{path}: {found[0]['about']}")
        fits += found
    return fits


def _fit(points: Points, table: str, source: str | None) -> Record:
    """The record of a fit; without a growth, and with the reason, where the points are too few."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in points.unused.items())
    about = f"{len(points.values)} of {points.rows} rows used" + (f"; {left_out}" if left_out else "")
    record: Record = {"quantity": points.quantity, "unit": points.unit, "table": table, "source": source}
    try:
        fit = asdict(fit_growth(points.years, points.values, CONFIDENCE))
    except ValueError as error:
        return {**record, "growth": None, "about": f"{about}: {error}"}
    low, high = fit.pop("low"), fit.pop("high")
    method = "least squares of log2 on the date, interval by Student's t"
    return {**record, **fit, "ci95": [low, high], "method": method, "rows": points.rows, "about": about}


def fitted_trends(fits: list[Record], stand_in: Record | None) -> list[Record]:
    """The fits as trends: training compute against every hardware quantity that grows slower.

    Args:
        fits: What `fits_of_tables` gave.
        stand_in: A trend whose growth stands in for that of a table of models; None where there is such a table.
    """
    if stand_in:
        growth = {key: value for key, value in stand_in.items() if key.startswith("growth")}
        about, table, last = "training compute of " + stand_in["name"], stand_in["source"], None
    else:
        compute = next((fit for fit in fits if fit["quantity"] == COMPUTE and fit["growth"]), None)
        if compute is None or compute["growth"] <= 1:
            return []
        growth = {"growth": compute["growth"], "growth_ci95": compute["ci95"]}
        about, table, last = f"training compute, {compute['about']}", f"Growth: {compute['table']}", compute["last"]
    return [
        {
            "name": f"fitted {fit['quantity'].split(',')[0]}",
            **growth,
            "hardware": fit["growth"],
            "hardware_ci95": fit["ci95"],
            "basis": f"{fit['quantity']}, {fit['about']}; {about}",
            "source": f"{table} Hardware: {fit['table']}",
            "until": math.ceil(min(fit["last"], last or fit["last"])),
        }
        for fit in fits
        if fit["quantity"] != COMPUTE and fit["growth"] and fit["growth"] < growth["growth"]
    ]


def ai_and_efficiency() -> Record:
    """Doublings of algorithmic efficiency to AlexNet's accuracy: as stated, from the end points, and as a fit."""
    table = shipped("configs") / "trends" / "points" / "ai-and-efficiency.csv"
    (points,) = read_points(table, "models", 2010)
    first, last = points.values[0], points.values[-1]
    fit = fit_growth(points.years, [1 / value for value in points.values], CONFIDENCE)
    return {
        "reduction": 44,
        "doublings": doublings(44),
        "reduction_with_alexnet_stopped_at_epoch_62": 30,
        "reduction_of_end_points": first / last,
        "months_per_doubling_stated": 16,
        "months_per_doubling_of_end_points": months_per_doubling(first / last, points.years[-1] - points.years[0]),
        "months_per_doubling_fitted": 12 * (fit.doubling_years or 0),
        "about": "training compute to AlexNet's 79.1% top-5 on ImageNet, AlexNet (2012) to EfficientNet-b0 (2019)",
        "source": HERNANDEZ_AND_BROWN,
    }
