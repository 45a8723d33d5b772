"""Energy and emissions as text, always with whether they are measured or estimated, in which runtime and batch."""

from __future__ import annotations

from collections.abc import Iterable

from compress.report import formats as f
from compress.results import Variant, VariantSavings
from compress.utils.messages import significant


def per_image(variant: Variant) -> str:
    """3.1 mJ, measured (openvino, batch 16)."""
    energy = variant.inference.energy_j
    if energy.value is None:
        return f.UNKNOWN
    setting = f"{f.text(energy.runtime)}, batch {f.text(energy.batch)}"
    return f"{f.joules(energy.value)}, {kind(energy.method)} ({setting})"


def emissions(variant: Variant) -> str:
    """420 g, estimated: per million images."""
    carbon = variant.inference.carbon
    return f"{f.grams(carbon.g_per_million_images)}, {kind(carbon.method)}" if carbon else f.UNKNOWN


def doublings(savings: VariantSavings) -> str:
    """+1.20, estimated: what a variant saves."""
    value, basis = savings.doublings.energy, savings.energy_basis
    return f.signed(value) + (f", {kind(basis.method if basis else None)}" if value is not None else "")


def note(variants: Iterable[Variant]) -> str:
    """How the energies of a table were obtained; empty where there are none."""
    energies = [energy for v in variants if (energy := v.inference.energy_j).value is not None]
    methods = dict.fromkeys(f.plain(energy.method) for energy in energies)
    if not methods:
        return ""
    idle = [energy.idle_w for energy in energies if energy.idle_w is not None]
    subtracted = f" Idle power, {significant(min(idle))} to {significant(max(idle))} W, is subtracted." if idle else ""
    return f" Energy is per image, in the runtime where it is lowest; {'; '.join(methods)}.{subtracted}"


def is_known(variants: Iterable[Variant]) -> bool:
    """Whether any variant has an energy."""
    return any(variant.inference.energy_j.value is not None for variant in variants)


def is_estimated(variant: Variant) -> bool:
    """Whether a variant's energy is estimated from a stated power."""
    return kind(variant.inference.energy_j.method) == "estimated"


def kind(method: str | None) -> str:
    """Say how an energy was obtained: measured or estimated."""
    return f.plain(method).split(":")[0] if method else "by an unknown method"
