"""Trends: yearly growth of training compute and of hardware, shipped or fitted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from compress.efficiency.months import gap_ends
from compress.efficiency.trends import Ends
from compress.utils.resources import shipped


@dataclass(frozen=True)
class GapInterval:
    """Interval of the gap, with its confidence level as a fraction."""

    level: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Growth of training compute and of hardware, both as a factor per year.

    Attributes:
        name: Name of the trend.
        growth: Growth of training compute.
        growth_ci90: Its 90% interval, where the source gives one.
        growth_ci95: Its 95% interval, where it is fitted.
        hardware: Growth of hardware.
        hardware_ci90: Its 90% interval, where the source gives one.
        hardware_ci95: Its 95% interval, where it is fitted.
        basis: Quantity that grows.
        source: Source of both rates.
        since: First year of the data.
        until: Last year of the data; None where the trend goes on.
        hardware_until: Last year of the data of hardware, where it is another one.
    """

    name: str
    growth: float
    growth_ci90: Ends | None = None
    growth_ci95: Ends | None = None
    hardware: float
    hardware_ci90: Ends | None = None
    hardware_ci95: Ends | None = None
    basis: str
    source: str
    since: int | None = None
    until: int | None = None
    hardware_until: int | None = None

    def interval(self, years: float) -> GapInterval | None:
        """Interval of the gap after some years; None unless both growths have an interval of the same level."""
        found = gap_ends(self, years)
        return GapInterval(found[0], *found[1]) if found else None


def load_trend(name: str) -> Trend:
    """Load a trend of `configs/trends`."""
    loaded = yaml.safe_load((shipped("configs") / "trends" / f"{name}.yaml").read_text())
    return Trend(**{key: _value(value) for key, value in loaded.items()})


def _value(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
