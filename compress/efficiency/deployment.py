"""Time, price and energy of a million inferences on a machine."""

from __future__ import annotations

from collections.abc import Iterable

from compress.results.deployment import MillionImages
from compress.results.variant import Variant

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


def costs_of_million(variants: Iterable[Variant], price_per_hour: float | None) -> tuple[MillionImages, ...]:
    """Compute what a million images cost each variant, at its lowest measured time per image.

    Args:
        variants: Variants; those without a latency are left out.
        price_per_hour: Price of the machine that latency was measured on; None where it is unknown.
    """
    return tuple(_cost(variant, price_per_hour) for variant in variants if variant.inference.latency)


def _cost(variant: Variant, price_per_hour: float | None) -> MillionImages:
    fastest = min(variant.inference.latency, key=lambda row: row.p50_ms / row.batch)
    seconds, energy = seconds_per_million(fastest.p50_ms, fastest.batch), variant.inference.energy_j.value
    return MillionImages(
        id=variant.id,
        runtime=fastest.runtime,
        precision=fastest.precision,
        batch=fastest.batch,
        seconds=seconds,
        price=price_per_million(seconds, price_per_hour) if price_per_hour else None,
        energy_j=energy * MILLION if energy else None,
    )
