"""Time, price and energy of a million inferences on a machine, and which measurements apply to a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from compress.efficiency.energy import inference_energy
from compress.results.deployment import DeviceProfile, MillionImages
from compress.results.inference import EnergyRow, LatencyRow
from compress.results.variant import Variant

Row = TypeVar("Row", LatencyRow, EnergyRow)

MILLION = 10**6


def seconds_per_million(batch_ms: float, batch: int) -> float:
    """Compute the seconds of a machine that never idles: 10^6 x latency of a batch / its images.

    Args:
        batch_ms: Latency of one batch, milliseconds.
        batch: Batch size, images.

    Raises:
        ValueError: When one of them is not positive.
    """
    if batch_ms <= 0 or batch <= 0:
        raise ValueError(f"latency and batch size must be positive, not {batch_ms} ms and {batch} images")
    return MILLION * batch_ms / 1000 / batch


def price_per_million(seconds: float, price_per_hour: float) -> float:
    """Convert seconds of a machine to their price, in the currency of its price per hour."""
    return seconds / 3600 * price_per_hour


def is_here(profile: DeviceProfile, processor: str) -> bool:
    """Return whether a machine counts as the device: its `processor` is part of the name of the machine's."""
    return bool(profile.processor) and str(profile.processor).lower() in processor.lower()


def matching(rows: Sequence[Row], profile: DeviceProfile) -> list[Row]:
    """Return the rows of the profile's runtime, batch and, where it states them, threads."""
    return [
        row
        for row in rows
        if (row.runtime, row.batch) == (profile.runtime, profile.batch) and profile.threads in (None, row.threads)
    ]


def setting(profile: DeviceProfile) -> str:
    """Describe runtime, batch and threads of a profile."""
    threads = f", {profile.threads} threads" if profile.threads else ""
    return f"{profile.runtime or 'no stated runtime'}, batch {profile.batch}{threads}"


def costs_of_million(variants: Iterable[Variant], profile: DeviceProfile, processor: str) -> tuple[MillionImages, ...]:
    """Compute what a million images cost each variant on a device.

    The figures come from the row of latency whose runtime, batch and threads are the profile's, measured on its
    processor. Without one they are None, with the reason.

    Args:
        variants: All variants.
        profile: The device, with the price of an hour.
        processor: Name of the processor that latency was measured on.
    """
    why = None
    if not is_here(profile, processor):
        why = f"measured on {processor}, not on {profile.processor}" if profile.processor else "no processor is stated"
    return tuple(_cost(variant, profile, why) for variant in variants)


def _cost(variant: Variant, profile: DeviceProfile, why: str | None) -> MillionImages:
    inference = variant.inference
    rows = [] if why else matching(inference.latency, profile)
    if not rows:
        return MillionImages(id=variant.id, reason=why or f"nothing was timed in {setting(profile)}")
    row = rows[0]
    seconds = seconds_per_million(row.p50_ms, row.batch)
    energy = inference_energy(matching(inference.energy_j.rows, profile), rows, profile.watts).value
    return MillionImages(
        id=variant.id,
        runtime=row.runtime,
        precision=row.precision,
        batch=row.batch,
        threads=row.threads,
        seconds=seconds,
        price=price_per_million(seconds, profile.price_per_hour) if profile.price_per_hour else None,
        energy_j=energy * MILLION if energy is not None else None,
    )
