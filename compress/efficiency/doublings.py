"""Savings as doublings, and doublings as months of a trend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from compress.efficiency.energy import energy_basis

FLOAT_BITS = 32
COSTS = ("macs", "bit_operations", "latency", "energy")
"""The costs that are counted in doublings, side by side and never multiplied together."""


def doublings(ratio: float | None) -> float | None:
    """Doublings of efficiency, log2 of how many times cheaper (Hernandez and Brown 2020, arXiv 2005.04305).

    Args:
        ratio: Cost of the reference over cost of the variant, in one unit; None where one of them is not known.

    Returns:
        log2(ratio), negative where the variant costs more; None where the ratio is not known.

    Raises:
        ValueError: When the ratio is not a positive number.
    """
    if ratio is None:
        return None
    if not (math.isfinite(ratio) and ratio > 0):
        raise ValueError(f"a ratio of costs must be positive, not {ratio}")
    return math.log2(ratio)


def ratio(reference: float | None, variant: float | None) -> float | None:
    """Cost of the reference over cost of the variant; None where one is not known or is 0, which is no cost."""
    return reference / variant if reference and variant else None


def months_of_growth(d: float | None, growth: float) -> float | None:
    """Months in which training compute grows by d doublings: 12 d / log2(G).

    Args:
        d: Doublings; None where they are not known.
        growth: G, training compute's growth, times a year, > 1.

    Raises:
        ValueError: When compute does not grow.
    """
    if growth <= 1:
        raise ValueError(f"a growth of {growth} times a year is none")
    return None if d is None else 12 * d / math.log2(growth)


def months_of_gap(d: float | None, growth: float, hardware: float) -> float | None:
    """Months by which d doublings of *training* efficiency delay the compute gap: 12 d / (log2 G - log2 H).

    A result is one step and no rate: it delays the gap once. Savings in inference do not pay for training compute, so
    this is for the training ledger only.

    Args:
        d: Doublings of training efficiency; None where they are not known.
        growth: G, training compute's growth, times a year.
        hardware: H, the hardware's growth, times a year, below G.

    Raises:
        ValueError: When there is no growing gap.
    """
    if not 0 < hardware < growth:
        raise ValueError(f"there is no growing gap between {growth} and {hardware} times a year")
    return None if d is None else 12 * d / (math.log2(growth) - math.log2(hardware))


def inference_ratios(reference: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, float | None]:
    """How many times cheaper a variant's inference is, per cost.

    Args:
        reference: An `inference` record of `results.json`.
        variant: Another.

    Returns:
        A ratio for each of `COSTS`, None where it is not known.

    Raises:
        ValueError: When a record's MACs do not go with its bit operations, as FLOPs in their place would not.
    """
    for inference in (reference, variant):
        _refuse_flops(inference)
    basis, energy = latency_basis(reference, variant), energy_basis(reference, variant)
    return {
        "macs": ratio(reference.get("macs"), variant.get("macs")),
        "bit_operations": ratio(reference.get("bit_operations"), variant.get("bit_operations")),
        "latency": basis["ratio"] if basis else None,
        "energy": energy["ratio"] if energy else None,
    }


def _refuse_flops(inference: Mapping[str, Any]) -> None:
    """MACs x bits are bit operations: at least by those of the quantized layers, at most by 32. FLOPs fall outside."""
    bits = [inference.get(key) for key in ("weight_bits", "activation_bits")]
    count, operations = inference.get("macs"), inference.get("bit_operations")
    if not count or not operations or None in bits:
        return
    least, most = math.prod(map(float, filter(None, bits))), FLOAT_BITS**2
    if not least <= operations / count <= most:
        raise ValueError(
            f"{operations / count:g} bit operations a MAC are not between {least:g} and {most}: "
            "are these MACs FLOPs, of which there are two a MAC?"
        )


def latency_basis(reference: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, Any] | None:
    """Choose the pair of latencies that the doublings of latency are taken from.

    Of the rows that both have in the same runtime, batch and threads: those of the largest batch, and of these the one
    in which the variant has the lowest median time. Each network takes images at its own resolution. The ratio is taken
    from the ratios measured in turns (which share the machine's state) where both rows have one, otherwise from the two
    medians.

    Args:
        reference: An `inference` record of `results.json`.
        variant: Another.

    Returns:
        {runtime, precision, batch, threads, resolution, reference_precision, reference_ms, variant_ms, ratio}, times
        being medians per batch; None where the two have no row in common.
    """
    pairs = [
        (theirs, ours)
        for ours in variant.get("latency") or []
        for theirs in reference.get("latency") or []
        if ours.get("p50_ms") and theirs.get("p50_ms") and _setting(ours) == _setting(theirs)
    ]
    if not pairs:
        return None
    theirs, ours = min(pairs, key=lambda pair: (-pair[1]["batch"], pair[1]["p50_ms"], pair[0]["p50_ms"]))
    in_turns = ratio(ours.get("ratio_to_reference"), theirs.get("ratio_to_reference"))
    return {
        **{key: ours.get(key) for key in ("runtime", "precision", "batch", "threads", "resolution")},
        "reference_precision": theirs.get("precision"),
        "reference_ms": theirs["p50_ms"],
        "variant_ms": ours["p50_ms"],
        "ratio": in_turns or theirs["p50_ms"] / ours["p50_ms"],
    }


def _setting(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in ("runtime", "batch", "threads"))
