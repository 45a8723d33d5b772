"""Published rates of algorithmic progress: in how many months the compute to a given performance halves."""

from __future__ import annotations

import csv
from dataclasses import dataclass

from compress.efficiency.trends import Ends
from compress.utils.resources import shipped


@dataclass(frozen=True)
class AlgorithmicProgress:
    """Fall of the training compute to a given performance; one doubling of training efficiency is worth one halving.

    Attributes:
        name: What is trained.
        months_per_doubling: Months in which the compute halves.
        interval: Interval of these months.
        level: Its confidence level as a fraction.
        growth: Efficiency gain, factor per year.
        growth_interval: Interval of the gain.
        first: First year of the data.
        last: Last year of the data.
        about: Quantity that falls.
        source: Source of the rate.
    """

    name: str
    months_per_doubling: float
    interval: Ends | None
    level: float | None
    growth: float
    growth_interval: Ends | None
    first: int
    last: int
    about: str
    source: str


def algorithmic_progress() -> tuple[AlgorithmicProgress, ...]:
    """Read the shipped rates."""
    table = shipped("configs") / "trends" / "points" / "algorithmic-progress.csv"
    with table.open(newline="", encoding="utf-8") as file:
        return tuple(_progress(row) for row in csv.DictReader(file))


def _progress(row: dict[str, str]) -> AlgorithmicProgress:
    months = float(row["Halves in (months)"])
    interval = (float(row["Low (months)"]), float(row["High (months)"])) if row["Level (%)"] else None
    return AlgorithmicProgress(
        name=row["Name"],
        months_per_doubling=months,
        interval=interval,
        level=float(row["Level (%)"]) / 100 if interval else None,
        growth=2 ** (12 / months),
        growth_interval=(2 ** (12 / interval[1]), 2 ** (12 / interval[0])) if interval else None,
        first=int(row["First year"]),
        last=int(row["Last year"]),
        about=row["Quantity"],
        source=row["Source"],
    )
