"""Growth rates that are computed from tables of published points, never typed in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compress.efficiency.doublings import doublings
from compress.efficiency.trends import Ends, fit_growth, geometric_mean, months_per_doubling
from compress.gap.points import Points, read_points
from compress.gap.trend import Trend
from compress.utils.errors import UsageError
from compress.utils.resources import shipped

CONFIDENCE = 0.95
COMPUTE = "training compute"
METHOD = "least squares of log2 on the date, interval by Student's t"

SHIPPED = {
    "models": ("ai-and-compute.csv", "OpenAI, AI and Compute (2018)"),
    "hardware": ("hardware.csv", "vendors' datasheets, named row by row in the table"),
}

HERNANDEZ_AND_BROWN = (
    "Hernandez and Brown, Measuring the Algorithmic Efficiency of Neural Networks, arXiv 2005.04305 (2020)"
)


@dataclass(frozen=True, kw_only=True)
class TableFit:
    """Growth of one quantity of a table; without a growth where the points are too few.

    Attributes:
        quantity: Quantity that is fitted.
        unit: Its unit.
        table: Name or path of the table.
        source: Source of a shipped table; None for a given one.
        growth: Factor per year.
        doubling_years: Years in which it doubles.
        doubling_ci95: 95% interval of these years; None where it may not grow at all.
        points: Number of points.
        first: Year of the first point.
        last: Year of the last point.
        ci95: 95% interval of the growth.
        method: Method of the fit.
        rows: Rows of the table.
        about: Which rows were used, and why there is no fit.
    """

    quantity: str
    unit: str
    table: str
    source: str | None
    growth: float | None = None
    doubling_years: float | None = None
    doubling_ci95: Ends | None = None
    points: int | None = None
    first: float | None = None
    last: float | None = None
    ci95: Ends | None = None
    method: str | None = None
    rows: int | None = None
    about: str


@dataclass(frozen=True)
class Step:
    """A gain that accelerators made once, by another format or unit: geometric mean over the chips that have both.

    Attributes:
        name: What gains.
        times: Rate with it divided by the best rate without it.
        ci95: 95% interval of the mean.
        chips: Number of chips.
        first: Year of the first of them.
    """

    name: str
    times: float
    ci95: Ends
    chips: int
    first: float


@dataclass(frozen=True)
class Tables:
    """Two tables of published points, and what is computed from them."""

    points: tuple[Points, ...]
    fits: tuple[TableFit, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class AlgorithmicEfficiency:
    """Fall of the training compute to AlexNet's accuracy: as stated, from the end points, and as a fit."""

    reduction: int
    doublings: float | None
    reduction_with_alexnet_stopped_at_epoch_62: int
    reduction_of_end_points: float
    months_per_doubling_stated: int
    months_per_doubling_of_end_points: float
    months_per_doubling_fitted: float
    about: str
    source: str


def read_tables(models: Path | None, hardware: Path | None, since: float) -> Tables:
    """Fit the growth of every quantity of the two tables, the shipped ones where none is given.

    Raises:
        UsageError: a given table cannot be used.
    """
    every: list[Points] = []
    fits: list[TableFit] = []
    steps: list[Step] = []
    for kind, given in (("models", models), ("hardware", hardware)):
        name, source = SHIPPED[kind]
        path = given or shipped("configs") / "trends" / "points" / name
        found = read_points(path, kind, since)
        fitted = [_fit(points, name if given is None else str(given), None if given else source) for points in found]
        if all(fit.growth is None for fit in fitted):
            raise UsageError(f"{path}: {fitted[0].about}")
        every += found
        fits += fitted
        if kind == "hardware":
            steps = [step for points in read_points(path, "steps", since) if (step := _step(points))]
    return Tables(tuple(every), tuple(fits), tuple(steps))


def _step(points: Points) -> Step | None:
    try:
        mean, low, high = geometric_mean(points.values, CONFIDENCE)
    except ValueError:
        return None  # too few chips for a mean with an interval
    return Step(points.quantity, mean, (low, high), len(points.values), points.years[0])


def _fit(points: Points, table: str, source: str | None) -> TableFit:
    """Fit one quantity; without a growth, and with the reason, where the points are too few."""
    left_out = ", ".join(f"{count} {reason}" for reason, count in points.unused.items())
    about = f"{len(points.values)} of {points.rows} rows used" + (f"; {left_out}" if left_out else "")
    empty = TableFit(quantity=points.quantity, unit=points.unit, table=table, source=source, about=about)
    try:
        fit = fit_growth(points.years, points.values, CONFIDENCE)
    except ValueError as error:
        return replace(empty, about=f"{about}: {error}")
    return replace(
        empty,
        growth=fit.growth,
        doubling_years=fit.doubling_years,
        doubling_ci95=(1 / math.log2(fit.high), 1 / math.log2(fit.low)) if fit.low > 1 else None,
        points=fit.points,
        first=fit.first,
        last=fit.last,
        ci95=(fit.low, fit.high),
        method=METHOD,
        rows=points.rows,
    )


def fitted_trends(fits: Sequence[TableFit], stand_in: Trend | None) -> list[Trend]:
    """Turn fits into trends: training compute against every hardware quantity that grows slower.

    Args:
        fits: Fits of both tables.
        stand_in: A trend whose growth replaces that of a table of models; None where there is such a table.
    """
    compute = next((fit for fit in fits if fit.quantity == COMPUTE), None)
    first: float | None
    if stand_in:
        growth, ci90, ci95 = stand_in.growth, stand_in.growth_ci90, stand_in.growth_ci95
        about, table = f"training compute of {stand_in.name}", stand_in.source
        first, last, until = stand_in.since, None, stand_in.until
    elif compute and compute.growth and compute.growth > 1:
        growth, ci90, ci95 = compute.growth, None, compute.ci95
        about, table = f"training compute, {compute.about}", f"Growth: {compute.table}"
        first, last, until = compute.first, compute.last, None
    else:
        return []
    return [
        Trend(
            name=f"fitted {one.quantity.split(',')[0]}",
            growth=growth,
            growth_ci90=ci90,
            growth_ci95=ci95,
            hardware=one.growth,
            hardware_ci95=one.ci95,
            basis=f"{one.quantity}, {one.about}; {about}",
            source=f"{table} Hardware: {one.table}",
            since=math.floor(max(year for year in (one.first, first) if year is not None)),
            until=math.floor(last) if last else until,
            hardware_until=math.floor(one.last) if one.last else None,
        )
        for one in fits
        if one.quantity != COMPUTE and one.growth and one.growth < growth
    ]


def ai_and_efficiency() -> AlgorithmicEfficiency:
    """Compute the doublings of algorithmic efficiency from the published points."""
    table = shipped("configs") / "trends" / "points" / "ai-and-efficiency.csv"
    (points,) = read_points(table, "models", 2010)
    reduction = points.values[0] / points.values[-1]
    fit = fit_growth(points.years, [1 / value for value in points.values], CONFIDENCE)
    return AlgorithmicEfficiency(
        reduction=44,
        doublings=doublings(44),
        reduction_with_alexnet_stopped_at_epoch_62=30,
        reduction_of_end_points=reduction,
        months_per_doubling_stated=16,
        months_per_doubling_of_end_points=months_per_doubling(reduction, points.years[-1] - points.years[0]),
        months_per_doubling_fitted=12 * (fit.doubling_years or 0),
        about="training compute to AlexNet's 79.1% top-5 on ImageNet, AlexNet (2012) to EfficientNet-b0 (2019)",
        source=HERNANDEZ_AND_BROWN,
    )
