"""Energy of inference and its emissions: measured with a counter, else estimated and marked so, else unknown."""

from __future__ import annotations

from collections.abc import Sequence

from compress.results.inference import Carbon, EnergyRow, InferenceEnergy, LatencyRow

JOULES_PER_KWH = 3.6e6


def inference_energy(
    measured: Sequence[EnergyRow], latency: Sequence[LatencyRow], watts: float | None
) -> InferenceEnergy:
    """Choose the energy per image of a variant: the lowest of its rows.

    Args:
        measured: Rows of measured energy; may be empty.
        latency: Rows of latency, from which energy is estimated where none was measured.
        watts: Power under load minus idle power; None where it is unknown.

    Returns:
        The row with the lowest energy, and all rows: all measured, or all estimated. Null without either.
    """
    rows = tuple(measured) or tuple(estimated_energy(row, watts) for row in latency if watts)
    if not rows:
        return InferenceEnergy(value=None, method=None)
    best = min(rows, key=lambda row: row.value)
    return InferenceEnergy(**dict(best), rows=rows)


def estimated_energy(row: LatencyRow, watts: float) -> EnergyRow:
    """Estimate the energy per image as power x median latency of a batch / its images."""
    return EnergyRow(
        value=watts * row.p50_ms / 1000 / row.batch,
        method=f"estimated: {watts:g} W × latency",
        runtime=row.runtime,
        precision=row.precision,
        batch=row.batch,
        threads=row.threads,
    )


def inference_carbon(energy: InferenceEnergy, g_per_kwh: float | None) -> Carbon | None:
    """Compute the emissions of a million images: joules x intensity / 3.6e6 x 1e6.

    Args:
        energy: Energy per image.
        g_per_kwh: Carbon intensity, grams of CO2e per kilowatt-hour; None where it is unknown.
    """
    if energy.value is None or energy.method is None or not g_per_kwh:
        return None
    grams = energy.value * g_per_kwh / JOULES_PER_KWH * 1e6
    return Carbon(g_per_million_images=grams, g_per_kwh=g_per_kwh, method=energy.method)
