"""`gap`: how far training compute runs ahead of the hardware, by each trend, and what a run's savings offset of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth
from compress.efficiency.trends import gap, holding_rate, years_to_catch_up
from compress.errors import CompressError, UsageError
from compress.resources import config_names, shipped

Record = dict[str, Any]

LEVELS = (
    "A saving is a one-off step, not a rate: it delays the gap once, then the slope goes on. To hold the gap, the rate "
    "in the column 'to hold it' is needed every year."
)
TWICE = (
    "essay counts efficiency twice: operations a joule already grow with operations a second, and it multiplies both."
)
AI_AND_EFFICIENCY = {
    "reduction": 44,
    "reduction_with_alexnet_stopped_at_epoch_62": 30,
    "months_per_doubling_stated": 16,
    "about": "training compute to AlexNet's 79.1% top-5, AlexNet (2012) to EfficientNet-b0 (2019)",
    "source": "Hernandez and Brown, Measuring the Algorithmic Efficiency of Neural Networks, arXiv 2005.04305 (2020)",
}


def gap_record(names: Sequence[str], start: float, end: float, run: Path | None = None) -> Record:
    """All that `gap` says.

    Args:
        names: trends of `configs/trends`; none stands for all.
        start: first year, at which compute and hardware are level.
        end: last year.
        run: folder of a run whose savings are turned into months of each trend.

    Raises:
        UsageError: there is no such trend, or the years do not follow on one another.
        CompressError: the run has no results.
    """
    known = config_names("trends")
    for name in names:
        if name not in known:
            raise UsageError(f"there is no trend {name!r}; there are {', '.join(known)}")
    if not start < end:
        raise UsageError(f"--end {end:g} does not come after --start {start:g}")
    savings = _savings(run) if run else []
    bases = [_basis(name, start, end, savings) for name in names or known]
    remarks = [LEVELS, *([TWICE] if any(basis["name"] == "essay" for basis in bases) else [])]
    return {
        "start": start,
        "end": end,
        "bases": bases,
        "ai_and_efficiency": {**AI_AND_EFFICIENCY, "doublings": doublings(AI_AND_EFFICIENCY["reduction"])},  # type: ignore[arg-type]
        "remarks": remarks,
        "run": str(run) if run else None,
    }


def _basis(name: str, start: float, end: float, savings: list[Record]) -> Record:
    trend = yaml.safe_load((shipped("configs") / "trends" / f"{name}.yaml").read_text())
    growth, hardware = trend["growth"], trend["hardware"]
    holds = end <= trend.get("until", end)  # a trend is not drawn out beyond the years that it was found in
    return {
        **trend,
        "gap": gap(growth, hardware, start, end) if holds else None,
        "years_to_catch_up": years_to_catch_up(growth, hardware, start, end) if holds else None,
        "holding_rate": holding_rate(growth, hardware),
        "one_doubling": {
            "months_of_growth": months_of_growth(1, growth),
            "months_of_gap": months_of_gap(1, growth, hardware),
        },
        "savings": [_months(saving, growth, hardware) for saving in savings],
    }


def _savings(run: Path) -> list[Record]:
    """What a run has saved: granted doublings of inference, and doublings of training compute."""
    try:
        results = json.loads((run / "results.json").read_text())
        found = [
            {"of": "inference", "variant": record["id"], "against": entry["reference"], "doublings": saved}
            for entry in results["efficiency"]
            for record in entry["variants"]
            if record["granted"] and (saved := record["doublings"]["macs"] or 0) > 0
        ]
        found += [
            {
                "of": "training",
                "variant": entry["variant"],
                "against": entry["baseline"],
                "doublings": entry["doublings"],
            }
            for entry in results["training_efficiency"]
            if entry["doublings"] is not None
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CompressError(f"{run} has no results.json of a run that is done") from error
    return found


def _months(saving: Record, growth: float, hardware: float) -> Record:
    """Inference pays no training compute: only a saving in training has months of gap."""
    training = saving["of"] == "training"
    return {
        **saving,
        "months_of_growth": months_of_growth(saving["doublings"], growth),
        "months_of_gap": months_of_gap(saving["doublings"], growth, hardware) if training else None,
    }
