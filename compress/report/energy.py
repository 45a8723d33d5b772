"""Energy and emissions in words: no figure without whether it was measured or estimated, in what, at which batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from compress.report import formats as f
from compress.report.formats import field

Record = dict[str, Any]


def per_image(variant: Record) -> str:
    """3.1 mJ, measured (openvino, batch 16)."""
    energy = field(variant, "inference", "energy_j") or {}
    if energy.get("value") is None:
        return f.UNKNOWN
    where = f"{f.text(energy.get('runtime'))}, batch {f.text(energy.get('batch'))}"
    return f"{f.joules(energy['value'])}, {_kind(energy.get('method'))} ({where})"


def emissions(variant: Record) -> str:
    """420 g, estimated: of a million images."""
    carbon = field(variant, "inference", "carbon")
    return f"{f.grams(carbon['g_per_million_images'])}, {_kind(carbon.get('method'))}" if carbon else f.UNKNOWN


def doublings(record: Record) -> str:
    """+1.20, estimated: what a variant saves."""
    value = field(record, "doublings", "energy")
    return f.signed(value) + (f", {_kind(field(record, 'energy_basis', 'method'))}" if value is not None else "")


def note(variants: Iterable[Record]) -> str:
    """How the energies of a table came about; empty where there is none."""
    energies = [e for v in variants if field(e := field(v, "inference", "energy_j"), "value") is not None]
    methods = dict.fromkeys(f.plain(energy["method"]) for energy in energies)
    if not methods:
        return ""
    idle = [energy["idle_w"] for energy in energies if energy.get("idle_w") is not None]
    subtracted = f" Idle power, {min(idle):.3g} to {max(idle):.3g} W, is not in it." if idle else ""
    return f" Energy is per image, in the runtime where it is lowest; {'; '.join(methods)}.{subtracted}"


def is_known(variants: Iterable[Record]) -> bool:
    """Whether any variant has an energy."""
    return any(field(variant, "inference", "energy_j", "value") is not None for variant in variants)


def is_estimated(variant: Mapping[str, Any]) -> bool:
    """Whether a variant's energy was worked out from a power that somebody stated."""
    return _kind(field(variant, "inference", "energy_j", "method")) == "estimated"


def _kind(method: Any) -> str:
    return f.plain(method).split(":")[0] if method else "by an unknown method"
