"""Energy of inference as `results.json` has it: measured where it was, else estimated and called so, else unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FIGURES = ("value", "method", "runtime", "precision", "batch", "threads", "idle_w", "seconds", "images")
JOULES_PER_KWH = 3.6e6


def inference_energy(
    measured: Sequence[Mapping[str, Any]], latency: Sequence[Mapping[str, Any]], watts: float | None
) -> dict[str, Any]:
    """The `energy_j` record of a variant.

    Args:
        measured: Its rows of measured energy, in joules an image; may be empty.
        latency: Its rows of latency.
        watts: Power of the machine while it computes, less its idle power; None where nobody said.

    Returns:
        {value, method, runtime, precision, batch, threads, idle_w, seconds, images, rows}: the row with the lowest
        energy an image, in joules, and all rows. Rows are all measured or, where none is, all estimated; without
        either every figure is None.
    """
    rows = [row for row in measured if row.get("value")] or _estimated(latency, watts)
    rows = [{key: row.get(key) for key in FIGURES} for row in rows]
    best = min(rows, key=lambda row: row["value"], default=dict.fromkeys(FIGURES))
    return {**best, "rows": rows}


def _estimated(latency: Sequence[Mapping[str, Any]], watts: float | None) -> list[Mapping[str, Any]]:
    """Power × median time of a batch / its images."""
    if not watts:
        return []
    method = f"estimated: {watts:g} W × latency"
    return [
        {**row, "value": watts * row["p50_ms"] / 1000 / row["batch"], "method": method}
        for row in latency
        if row.get("p50_ms")
    ]


def inference_carbon(energy: Mapping[str, Any], g_per_kwh: float | None) -> dict[str, Any] | None:
    """Emissions of the electricity of a million images: joules × intensity / 3.6e6 × 1e6.

    Args:
        energy: An `energy_j` record.
        g_per_kwh: Grams of CO2e a kilowatt-hour; None where nobody said.

    Returns:
        {g_per_million_images, g_per_kwh, method}, the method being the energy's; None where one of the two is unknown.
    """
    if not energy.get("value") or not g_per_kwh:
        return None
    grams = energy["value"] * g_per_kwh / JOULES_PER_KWH * 1e6
    return {"g_per_million_images": grams, "g_per_kwh": g_per_kwh, "method": energy["method"]}


def energy_basis(reference: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any] | None:
    """Choose the pair of energies that the doublings of energy are taken from.

    Of the rows that both have by the same method, in the same runtime, batch and threads: those of the largest batch,
    and of these the one in which the variant takes the least. Measured and estimated energy are never held against
    each other.

    Args:
        reference: An `inference` record of `results.json`.
        variant: Another.

    Returns:
        {runtime, precision, batch, method, reference_precision, reference_j, variant_j, ratio}, joules an image; None
        where the two have no row in common.
    """
    pairs = [
        (theirs, ours)
        for ours in _rows(variant)
        for theirs in _rows(reference)
        if all(theirs.get(key) == ours.get(key) for key in ("method", "runtime", "batch", "threads"))
    ]
    if not pairs:
        return None
    theirs, ours = min(pairs, key=lambda pair: (-(pair[1].get("batch") or 0), pair[1]["value"], pair[0]["value"]))
    return {
        **{key: ours.get(key) for key in ("runtime", "precision", "batch", "method")},
        "reference_precision": theirs.get("precision"),
        "reference_j": theirs["value"],
        "variant_j": ours["value"],
        "ratio": theirs["value"] / ours["value"],
    }


def _rows(inference: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    energy = inference.get("energy_j") or {}
    return [row for row in energy.get("rows") or [energy] if row.get("value")]
