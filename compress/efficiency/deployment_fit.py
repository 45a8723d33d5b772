"""Which variant fits which device: budgets held against what was measured, and against nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.efficiency.energy import inference_energy
from compress.efficiency.savings import cost

Record = Mapping[str, Any]
Figure = tuple[float | None, str]
"""A figure, or None, and what it rests on or why it is not known."""

ELSEWHERE = "another device"
MEGA = 1e6


def deployment_fits(
    variants: Sequence[Record], efficiency: Sequence[Record], profiles: Sequence[Record], processor: str
) -> list[dict[str, Any]]:
    """Hold every variant against the budgets of every device.

    The size of a file is the same everywhere. Latency, memory and energy are those of this machine: they count for a
    device only where its `processor` is part of the name of this machine's, at its runtime, batch and threads. Nothing
    is carried over from one device to another.

    Args:
        variants: Variant records of `results.json`.
        efficiency: Its entries of `efficiency`; equal accuracy is that of the first in which a variant is granted.
        profiles: `deployments` of a recipe.
        processor: Name of the processor that variants were measured on.

    Returns:
        [{profile, here, reference, fits: [{id, as_accurate, budgets: [{what, limit, value, verdict, basis}], meets}],
        best, open}], an entry a profile. `verdict` is `met`, `not met` or `not measured`; `meets` is False where a
        budget is not met, None where all that is known is met, else True. `best` is the cheapest variant (by MACs,
        then bit operations) that is as accurate as the reference and meets all budgets, or None; `open` are those that
        are as accurate and not ruled out by what was measured, the cheapest first.
    """
    entry = next((e for e in efficiency if any(v.get("granted") for v in e["variants"])), efficiency[0])
    accurate = {entry["reference"], *(v["id"] for v in entry["variants"] if v.get("granted"))}
    found = []
    for profile in profiles:
        here = bool(profile.get("processor")) and profile["processor"].lower() in processor.lower()
        fits = [_fit(variant, profile, here, variant["id"] in accurate) for variant in variants]
        order = {v["id"]: cost(v) for v in variants}
        ranked = sorted((f for f in fits if f["as_accurate"]), key=lambda f: order[f["id"]])
        found.append(
            {
                "profile": dict(profile),
                "here": here,
                "reference": entry["reference"],
                "fits": fits,
                "best": next((f["id"] for f in ranked if f["meets"]), None),
                "open": [f["id"] for f in ranked if f["meets"] is None],
            }
        )
    return found


def _fit(variant: Record, profile: Record, here: bool, as_accurate: bool) -> dict[str, Any]:
    budgets = [
        _verdict(what, limit, *FIGURES[what](variant, profile, here))
        for what, limit in profile["budgets"].items()
        if limit is not None
    ]
    verdicts = {budget["verdict"] for budget in budgets}
    meets = False if "not met" in verdicts else None if "not measured" in verdicts else True
    return {"id": variant["id"], "as_accurate": as_accurate, "budgets": budgets, "meets": meets}


def _verdict(what: str, limit: float, value: float | None, basis: str) -> dict[str, Any]:
    verdict = "not measured" if value is None else "met" if value <= limit else "not met"
    return {"what": what, "limit": limit, "value": value, "verdict": verdict, "basis": basis}


def _matching(rows: Sequence[Record], profile: Record) -> list[Record]:
    """Rows of the profile's runtime, batch and, where it says so, threads."""
    threads = profile.get("threads")
    return [
        row
        for row in rows
        if row.get("runtime") == profile["runtime"]
        and row.get("batch") == profile["batch"]
        and threads in (None, row.get("threads"))
    ]


def _setting(profile: Record) -> str:
    threads = f", {profile['threads']} threads" if profile.get("threads") else ""
    return f"{profile['runtime']}, batch {profile['batch']}{threads}"


def _latency(variant: Record, profile: Record, here: bool) -> Figure:
    """Milliseconds of a batch, 99th percentile."""
    if not here:
        return None, ELSEWHERE
    rows = [r for r in _matching(_inference(variant).get("latency") or [], profile) if r.get("p99_ms") is not None]
    if not rows:
        return None, f"nothing was timed in {_setting(profile)}"
    return rows[0]["p99_ms"], "99th percentile"


def _memory(variant: Record, profile: Record, here: bool) -> Figure:
    """Peak memory in 10^6 bytes. A larger batch than the device's is an upper bound, which can only be met."""
    if not here:
        return None, ELSEWHERE
    inference = _inference(variant)
    peak, basis = inference.get("peak_memory_bytes"), inference.get("peak_memory_basis") or {}
    if peak is None or basis.get("runtime") != profile["runtime"]:
        return None, f"memory was not measured in {profile['runtime']}"
    if basis["batch"] == profile["batch"]:
        return peak / MEGA, f"batch {basis['batch']}"
    limit = profile["budgets"]["memory_mb"]
    if basis["batch"] > profile["batch"] and peak / MEGA <= limit:
        return peak / MEGA, f"batch {basis['batch']}: at most"
    return None, f"memory was measured at batch {basis['batch']}"


def _size(variant: Record, profile: Record, here: bool) -> Figure:
    """Size of the files for the profile's runtime, in 10^6 bytes."""
    files = [a for a in variant.get("artifacts") or [] if a.get("runtime") == profile["runtime"]]
    if not files or files[0].get("bytes") is None:
        return None, f"no file for {profile['runtime']}"
    return files[0]["bytes"] / MEGA, profile["runtime"]


def _energy(variant: Record, profile: Record, here: bool) -> Figure:
    """Joules an image; where no counter gave any, estimated from the device's power, and called so."""
    if not here:
        return None, ELSEWHERE
    inference = _inference(variant)
    energy = inference.get("energy_j") or {}
    measured = _matching(energy.get("rows") or [], profile)
    found = inference_energy(measured, _matching(inference.get("latency") or [], profile), profile.get("watts"))
    if found["value"] is None:
        return None, f"no energy is known in {_setting(profile)}"
    return found["value"], found["method"]


def _inference(variant: Record) -> Record:
    return variant.get("inference") or {}


FIGURES = {"latency_ms": _latency, "memory_mb": _memory, "size_mb": _size, "energy_j": _energy}
