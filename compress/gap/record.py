"""All that `gap` says: the trends, what the published points say of them, and what a run's savings offset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from compress.efficiency.doublings import months_of_gap, months_of_growth
from compress.efficiency.trends import gap, gap_interval, holding_rate, years_to_catch_up
from compress.gap.growth_fit import ai_and_efficiency, fits_of_tables, fitted_trends
from compress.recipe.worth import DEFAULT_TREND
from compress.utils.checksums import RUN_AGAIN, refuse_changed
from compress.utils.errors import CompressError, UsageError
from compress.utils.resources import config_names, shipped

Record = dict[str, Any]

LEVELS = (
    "A saving is a one-off step, not a rate: it delays the gap once, then the slope goes on. To hold the gap, the rate "
    "in the column 'to hold it' is needed every year."
)
TWICE = (
    "essay counts efficiency twice: operations a joule already grow with operations a second, and it multiplies both."
)
NOT_OF_TRAINING = (
    "A saving in inference has no months of gap: it pays no training compute. It is worth its months of growth."
)


def gap_record(
    names: Sequence[str],
    start: float,
    end: float,
    run: Path | None = None,
    models: Path | None = None,
    hardware: Path | None = None,
    since: float = 2010,
) -> Record:
    """All that `gap` says.

    Args:
        names: trends of `configs/trends`; none stands for all.
        start: first year, at which compute and hardware are level.
        end: last year.
        run: folder of a run whose savings are turned into months of each trend.
        models: a table of models and their training compute, to fit in place of the shipped one.
        hardware: a table of accelerators, to fit in place of the shipped one.
        since: first year of the points that are fitted.

    Raises:
        UsageError: there is no such trend, the years do not follow on one another, or a table cannot be used.
        CompressError: the run has no results.
    """
    known = config_names("trends")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no trend {name!r}; there are {', '.join(known)}")
    if not start < end:
        raise UsageError(f"--end {end:g} does not come after --start {start:g}")
    fits = fits_of_tables(models, hardware, since)
    trends = [_trend(name) for name in names or known]
    if models or hardware:
        trends += fitted_trends(fits, None if models else _trend(DEFAULT_TREND))
    savings = _savings(run) if run else []
    bases = [basis_of(trend, start, end, savings) for trend in trends]
    remarks = [LEVELS, *([TWICE] if any(basis["name"] == "essay" for basis in bases) else [])]
    remarks += [NOT_OF_TRAINING] if any(saving["of"] == "inference" for saving in savings) else []
    return {
        "start": start,
        "end": end,
        "bases": bases,
        "fits": fits,
        "ai_and_efficiency": ai_and_efficiency(),
        "remarks": remarks,
        "run": str(run) if run else None,
    }


def _trend(name: str) -> Record:
    trend: Record = yaml.safe_load((shipped("configs") / "trends" / f"{name}.yaml").read_text())
    return trend


def basis_of(trend: Record, start: float, end: float, savings: list[Record]) -> Record:
    """One entry of `bases`: a trend with its gap between two years, and what savings offset by it.

    Args:
        trend: {name, growth, hardware, ...} of `configs/trends` or of a recipe.
        start: first year, at which compute and hardware are level.
        end: last year.
        savings: what `run_savings` gave.
    """
    growth, hardware = trend["growth"], trend["hardware"]
    holds = end <= (trend.get("until") or end)  # a trend is not drawn out beyond the years that it was found in
    return {
        **trend,
        "gap": gap(growth, hardware, start, end) if holds else None,
        "gap_interval": _interval(trend, end - start) if holds else None,
        "years_to_catch_up": years_to_catch_up(growth, hardware, start, end) if holds and hardware > 1 else None,
        "holding_rate": holding_rate(growth, hardware),
        "one_doubling": _worth(1, growth, hardware, training=True),
        "savings": [
            {**saving, **_worth(saving["doublings"], growth, hardware, saving["of"] == "training")}
            for saving in savings
        ],
    }


def _interval(trend: Record, years: float) -> Record | None:
    """Only where both growths have an interval, and of one level."""
    for level in ("90", "95"):
        growth, hardware = trend.get(f"growth_ci{level}"), trend.get(f"hardware_ci{level}")
        if growth and hardware:
            low, high = gap_interval(trend["growth"], tuple(growth), trend["hardware"], tuple(hardware), years)
            return {"level": int(level) / 100, "low": low, "high": high}
    return None


def _worth(saved: float, growth: float, hardware: float, training: bool) -> Record:
    """Months of growth; and of gap, where it is training compute that was saved and there is a growing gap."""
    held = months_of_gap(saved, growth, hardware) if training and hardware < growth else None
    return {
        "months_of_growth": months_of_growth(saved, growth),
        "months_of_gap": held,
        "hold": f"To hold the gap, you would need this again every {held:.1f} months." if held and held > 0 else None,
    }


def _savings(run: Path) -> list[Record]:
    """What a run has saved: granted doublings of inference, and doublings of training compute."""
    refuse_changed(run / "results.json", RUN_AGAIN)
    try:
        results = json.loads((run / "results.json").read_text())
        return run_savings({key: results[key] for key in ("efficiency", "training_efficiency")})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompressError(f"{run} has no results.json of a run that is done") from error


def run_savings(results: Mapping[str, Any]) -> list[Record]:
    """Doublings that a run may call saved: of inference where granted, of training compute where reached.

    Training compute counts at the baseline's own last accuracy: beyond it the baseline's is not known, only a bound.

    Args:
        results: A `results.json`.

    Returns:
        [{of: inference | training, variant, against, doublings}].
    """
    inference = [
        {"of": "inference", "variant": record["id"], "against": entry["reference"], "doublings": saved}
        for entry in results.get("efficiency") or []
        for record in entry["variants"]
        if record.get("granted") and (saved := (record["doublings"] or {}).get("macs") or 0) > 0
    ]
    training = [
        {"of": "training", "variant": entry["variant"], "against": entry["baseline"], "doublings": entry["doublings"]}
        for entry in results.get("training_efficiency") or []
        if entry["doublings"] is not None and not entry.get("chosen")
    ]
    return inference + training
