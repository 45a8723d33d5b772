"""Time, price and energy of a million inferences on a machine, and which measurements apply to a device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from compress.efficiency.energy import inference_energy
from compress.results.deployment import DeviceProfile, MillionImages
from compress.results.hosts import HostMeasurement
from compress.results.inference import EnergyRow, InferenceEnergy, LatencyRow, PeakMemoryBasis
from compress.results.variant import Variant
from compress.utils.precision import HALF

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


@dataclass(frozen=True)
class OnDevice:
    """Variants with the figures of a machine that counts as a device, or of this one if none does."""

    variants: Sequence[Variant]
    processor: str  # of that machine
    here: bool  # whether this machine is such a device
    host: str | None  # address of another machine that is

    @property
    def is_measured(self) -> bool:
        return self.here or self.host is not None


def on_device(
    profile: DeviceProfile, variants: Sequence[Variant], processor: str, hosts: Sequence[HostMeasurement]
) -> OnDevice:
    """Find the figures that hold for a device: of this machine, else of the first other machine that is one.

    Of another machine there is only latency and memory in the profile's runtime; what was measured here does not count
    there.
    """
    if not is_here(profile, processor):
        for each in hosts:
            if each.machine and each.runtime == profile.runtime and is_here(profile, each.machine.processor):
                there = [_on_host(variant, each) for variant in variants]
                return OnDevice(there, each.machine.processor, False, each.host)
    return OnDevice(variants, processor, is_here(profile, processor), None)


def _on_host(variant: Variant, measured: HostMeasurement) -> Variant:
    memory, machine = measured.peak_memory_bytes.get(variant.id), measured.machine
    basis = {"runtime": measured.runtime, "batch": measured.batch, "threads": machine.threads if machine else None}
    figures = {
        "latency": measured.latency.get(variant.id, ()),
        "peak_memory_bytes": memory,
        "peak_memory_basis": PeakMemoryBasis.model_validate(basis) if memory else None,
        "energy_j": InferenceEnergy(value=None, method=None),
        "carbon": None,
    }
    return variant.model_copy(update={"inference": variant.inference.model_copy(update=figures)})


class Setting(Protocol):
    """Setting in which something was measured."""

    @property
    def runtime(self) -> str: ...
    @property
    def batch(self) -> int: ...
    @property
    def threads(self) -> int | None: ...


def matches(measured: Setting, profile: DeviceProfile, *, larger: bool = False) -> bool:
    """Return whether something was measured in a profile's runtime, batch and, where it states them, threads.

    Args:
        measured: Setting of the measurement.
        profile: The device.
        larger: Whether a larger batch than the device's counts too.
    """
    batch = measured.batch == profile.batch or (larger and measured.batch > profile.batch)
    return measured.runtime == profile.runtime and batch and profile.threads in (None, measured.threads)


def matching(rows: Sequence[Row], profile: DeviceProfile) -> list[Row]:
    """Return the rows that match the profile.

    Those of files in half precision count where the variant has no other file for the runtime.
    """
    found = [row for row in rows if matches(row, profile)]
    return [row for row in found if row.precision not in HALF] or found


def setting(profile: DeviceProfile) -> str:
    """Describe runtime, batch and threads of a profile."""
    threads = f", {profile.threads} threads" if profile.threads else ""
    return f"{profile.runtime or 'no stated runtime'}, batch {profile.batch}{threads}"


def costs_of_million(
    variants: Sequence[Variant], profile: DeviceProfile, processor: str, hosts: Sequence[HostMeasurement] = ()
) -> tuple[MillionImages, ...]:
    """Compute what a million images cost each variant on a device.

    The figures come from the row of latency whose runtime, batch and threads are the profile's, measured on its
    processor. Without one they are None, with the reason.

    Args:
        variants: All variants.
        profile: The device, with the price of an hour.
        processor: Name of the processor that latency was measured on.
        hosts: Measurements on other machines, which count where this one is not the device.
    """
    device, why = on_device(profile, variants, processor, hosts), None
    if not device.is_measured:
        why = f"measured on {processor}, not on {profile.processor}" if profile.processor else "no processor is stated"
    return tuple(_cost(variant, profile, why) for variant in device.variants)


def _cost(variant: Variant, profile: DeviceProfile, why: str | None) -> MillionImages:
    inference = variant.inference
    rows = [] if why else matching(inference.latency, profile)
    if not rows:
        return MillionImages(id=variant.id, reason=why or f"nothing was timed in {setting(profile)}")
    row = rows[0]
    seconds = seconds_per_million(row.p50_ms, row.batch)
    energy = energy_on(variant, profile)
    return MillionImages(
        id=variant.id,
        runtime=row.runtime,
        precision=row.precision,
        batch=row.batch,
        threads=row.threads,
        seconds=seconds,
        price=price_per_million(seconds, profile.price_per_hour) if profile.price_per_hour else None,
        energy_j=energy.value * MILLION if energy.value is not None else None,
        energy_method=energy.method,
    )


def energy_on(variant: Variant, profile: DeviceProfile) -> InferenceEnergy:
    """Return the energy per image in the profile's runtime, batch and threads, on a machine that is the device.

    Measured energy counts first, then what the device's own power gives, then what the run's stated power gave.
    """
    inference = variant.inference
    rows = matching(inference.energy_j.rows, profile)
    measured = [row for row in rows if row.method.startswith("measured")]
    known = measured or ([] if profile.watts else rows)
    return inference_energy(known, matching(inference.latency, profile), profile.watts)
