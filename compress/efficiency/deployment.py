"""What a million inferences cost on a machine: time, price and energy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MILLION = 10**6


def seconds_per_million(batch_ms: float, batch: int) -> float:
    """Seconds of a machine that is never idle: 10^6 x time of a batch / images of a batch.

    Args:
        batch_ms: Time of one batch, ms.
        batch: Images of a batch.

    Raises:
        ValueError: When one of them is not positive.
    """
    if batch_ms <= 0 or batch <= 0:
        raise ValueError(f"{batch} images in {batch_ms} ms cannot be")
    return MILLION * batch_ms / 1000 / batch


def price_per_million(seconds: float, price_per_hour: float) -> float:
    """Price of so many seconds of a machine, in the currency of its price per hour."""
    return seconds / 3600 * price_per_hour


def costs_of_million(variants: Iterable[Mapping[str, Any]], profile: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What a million inferences cost each variant, at its lowest measured time per image.

    Args:
        variants: Variant records of `results.json`.
        profile: {price_per_hour, ...} of a recipe's `deployment`; the price may be None.

    Returns:
        [{id, runtime, precision, batch, seconds, price, energy_j}]: one entry for each variant with a latency; the
        price None where the profile has none, the energy None where there is none. The machine is the one that
        latency was measured on, and never idle.
    """
    found = []
    for variant in variants:
        rows = [row for row in (variant.get("inference") or {}).get("latency") or [] if row.get("p50_ms")]
        if not rows:
            continue
        row = min(rows, key=lambda row: row["p50_ms"] / row["batch"])
        energy = (variant["inference"].get("energy_j") or {}).get("value")
        seconds, price = seconds_per_million(row["p50_ms"], row["batch"]), profile.get("price_per_hour")
        found.append(
            {
                "id": variant["id"],
                **{key: row.get(key) for key in ("runtime", "precision", "batch")},
                "seconds": seconds,
                "price": price_per_million(seconds, price) if price else None,
                "energy_j": energy * MILLION if energy else None,
            }
        )
    return found
