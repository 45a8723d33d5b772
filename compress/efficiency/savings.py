"""What variants save against a reference: one entry of `efficiency` in `results.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compress.efficiency.doublings import doublings, inference_ratios, latency_basis, months_of_growth, ratio
from compress.efficiency.energy import energy_basis
from compress.efficiency.intervals import (
    EXACT_METHOD,
    PAIRED_METHOD,
    Grant,
    PairedDifference,
    exact_upper_bound,
    grant,
    paired_difference,
)
from compress.efficiency.lifetime import break_even, cached_queries, ceiling, lifetime_ratio, share_ratio
from compress.efficiency.training import training_efficiency

__all__ = ["training_efficiency", "worth"]

LIFETIME_QUERIES = (10**6, 10**9, 10**12)
MADE_FROM_PARENT = ("prune", "sparsify", "quantize")
"""Kinds of stage whose training ledger starts with their parent's."""

Record = Mapping[str, Any]


def worth(
    variants: Sequence[Record],
    reference_id: str,
    tolerance: float,
    trend: Record,
    paired: Mapping[str, tuple[int, int, int]],
    deployment: Record | None = None,
) -> dict[str, Any]:
    """What every other variant saves against one reference.

    Doublings are arithmetic on the costs and are given for every variant, *granted or not*; whoever calls them a
    saving must read `granted` first. What would mislead without equal accuracy (`months_of_growth`, `lifetime`) is
    None where it is not granted.

    Args:
        variants: Variant records of `results.json`, the reference among them.
        reference_id: The variant that savings are counted against.
        tolerance: Loss of accuracy that counts as equal, a fraction.
        trend: {name, growth, hardware, basis, source}, growths in times a year.
        paired: Per variant id (b, c, n): of n test images that both were asked, b only the reference gets right, c
            only the variant. A variant without counts is not granted.
        deployment: {queries, hit_rate, inference_share}, each of which may be None: how much a model is asked.

    Returns:
        {reference, tolerance, trend, interval_method, exact_method, variants: [{id, granted, reason, paired:
        {only_reference, only_variant, images}, accuracy_difference, difference_ci95, exact_upper_bound, doublings,
        latency_basis, energy_basis, lifetime, break_even_queries, months_of_growth}]}.
        `accuracy_difference` is (b - c) / n as a fraction: positive means that the variant is *less* accurate.
        `months_of_growth` is that of the doublings of MACs. `break_even_queries` is K / (c_b - c_c), where K is what
        making the variant took on top of the reference, in MACs: its training ledger, less the reference's where it was
        made from the reference.

    Raises:
        ValueError: When no variant has the reference's id, when paired counts do not go with the two accuracies, so
            that one of them was measured on other images, or when MACs do not go with bit operations.
    """
    reference = next((variant for variant in variants if variant["id"] == reference_id), None)
    if reference is None:
        raise ValueError(f"no variant is called {reference_id}")
    others = [variant for variant in variants if variant["id"] != reference_id]
    for v in others:
        if v["id"] in paired:
            _refuse_other_images(reference, v, paired[v["id"]])
    differences = {v["id"]: paired_difference(*paired[v["id"]]) for v in others if v["id"] in paired}
    grants = {v["id"]: _grant(differences.get(v["id"]), tolerance) for v in others}
    as_accurate = [reference, *(v for v in others if grants[v["id"]].granted)]
    cheapest = min(as_accurate, key=cost)
    return {
        "reference": reference_id,
        "tolerance": tolerance,
        "trend": dict(trend),
        "interval_method": PAIRED_METHOD,
        "exact_method": EXACT_METHOD,
        "variants": [
            _entry(
                v,
                reference,
                _name_cheapest(grants[v["id"]], cheapest, reference_id),
                differences.get(v["id"]),
                trend,
                _effort(v, reference, variants),
                deployment or {},
            )
            for v in others
        ],
    }


def _refuse_other_images(reference: Record, variant: Record, counts: tuple[int, int, int]) -> None:
    """The discordant images of a pair are the difference of their right answers, if both were asked the same."""
    ours, theirs = variant.get("accuracy") or {}, reference.get("accuracy") or {}
    if ours.get("correct") is None or theirs.get("correct") is None:
        return
    b, c, n = counts
    if not ours["n"] == theirs["n"] == n or theirs["correct"] - ours["correct"] != b - c:
        raise ValueError(
            f"{reference['id']} ({theirs['correct']} of {theirs['n']} right) and {variant['id']} ({ours['correct']} of "
            f"{ours['n']}) were not measured on the same {n} images, of which {b} and {c} only one of them gets right"
        )


def _grant(difference: PairedDifference | None, tolerance: float) -> Grant:
    if difference is None:
        return Grant(False, "its accuracy was not compared with the reference's on the same images")
    return grant(difference, tolerance)


def _name_cheapest(decision: Grant, cheapest: Record, reference_id: str) -> Grant:
    if decision.granted:
        return decision
    name = f"{reference_id} itself" if cheapest["id"] == reference_id else cheapest["id"]
    return Grant(False, f"{decision.reason}; the cheapest shown to be as accurate as {reference_id} is {name}")


def cost(variant: Record) -> tuple[float, float]:
    """MACs, then bit operations; what is not known counts as dearest."""
    inference = variant.get("inference") or {}
    return inference.get("macs") or float("inf"), inference.get("bit_operations") or float("inf")


def _entry(
    variant: Record,
    reference: Record,
    decision: Grant,
    difference: PairedDifference | None,
    trend: Record,
    effort: float | None,
    deployment: Record,
) -> dict[str, Any]:
    theirs, ours = reference.get("inference") or {}, variant.get("inference") or {}
    saved = {cost: doublings(times) for cost, times in inference_ratios(theirs, ours).items()}
    return {
        "id": variant["id"],
        "granted": decision.granted,
        "reason": decision.reason,
        "paired": _counts(difference) if difference else None,
        "accuracy_difference": difference.difference if difference else None,
        "difference_ci95": [difference.low, difference.high] if difference else None,
        "exact_upper_bound": _exact(difference) if difference else None,
        "doublings": saved,
        "latency_basis": latency_basis(theirs, ours),
        "energy_basis": energy_basis(theirs, ours),
        "lifetime": _lifetime(reference, variant, effort, deployment) if decision.granted else None,
        "break_even_queries": break_even(effort, theirs.get("macs"), ours.get("macs")),
        "months_of_growth": months_of_growth(saved["macs"], trend["growth"]) if decision.granted else None,
    }


def _counts(difference: PairedDifference) -> dict[str, int]:
    return {name: getattr(difference, name) for name in ("only_reference", "only_variant", "images")}


def _exact(difference: PairedDifference) -> float:
    return exact_upper_bound(difference.only_reference, difference.only_variant, difference.images)


def _effort(variant: Record, reference: Record, variants: Sequence[Record]) -> float | None:
    """K: MACs that making the variant took on top of the reference."""
    spent = (variant.get("training") or {}).get("macs")
    by_id = {each["id"]: each for each in variants}
    ancestor: Record | None = variant
    while ancestor and ancestor.get("kind") in MADE_FROM_PARENT:
        ancestor = by_id.get(str(ancestor.get("parent")))
        if ancestor and ancestor["id"] == reference["id"]:
            made = (reference.get("training") or {}).get("macs")
            return None if spent is None or made is None else float(spent - made)
    return None if spent is None else float(spent)


def _lifetime(reference: Record, variant: Record, effort: float | None, deployment: Record) -> dict[str, Any] | None:
    """R(Q) in MACs at some Q, with its limit; None where what it is made of is not known."""
    made = (reference.get("training") or {}).get("macs")
    c_b = (reference.get("inference") or {}).get("macs")
    c_c = (variant.get("inference") or {}).get("macs")
    if made is None or effort is None or c_b is None or c_c is None:
        return None
    hit_rate, own = deployment.get("hit_rate") or 0.0, deployment.get("queries")
    at = [
        {"queries": q, "ratio": lifetime_ratio(cached_queries(q, hit_rate), c_b, c_c, effort, made)}
        for q in sorted({*LIFETIME_QUERIES, *([own] if own else [])})
    ]
    limit, share = ratio(c_b, c_c), deployment.get("inference_share")
    return {
        "unit": "macs",
        "at_queries": at,
        "query_macs": {"reference": c_b, "variant": c_c},
        "limit": limit,
        "training": made,
        "effort": effort,
        "hit_rate": hit_rate,
        "at_inference_share": {"share": share, "ratio": share_ratio(share, limit), "ceiling": ceiling(share)}
        if share and limit
        else None,
    }
