"""Order in which variants are tested, so that several tests together grant wrongly no more often than one.

A fixed sequence from the dearest to the cheapest stops at the first refusal, and each test in it may use the whole
error rate (Westfall and Krishen, Journal of Statistical Planning and Inference 99, 2001). The sequence is fixed by
costs and by accuracy on validation, and never by the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from compress.efficiency.intervals import Grant
from compress.results.variant import Variant


def cost(variant: Variant) -> tuple[float, float]:
    """MACs, then bit operations, to sort by; 0 stands for not counted and sorts last."""
    return variant.inference.macs or float("inf"), variant.inference.bit_operations or float("inf")


def is_cheaper(variant: Variant, reference: Variant) -> bool:
    """Whether a variant takes fewer MACs or fewer bit operations than the reference."""
    return any(own < base for own, base in zip(cost(variant), cost(reference), strict=True))


def in_sequence(reference: Variant, variants: Sequence[Variant], own: Mapping[str, Grant]) -> dict[str, Grant]:
    """Decide which variants are granted when all are tested against one reference.

    Of variants of the same cost, only one is tested: of those with a file that was run here the most accurate on
    validation; without its accuracy there, the last. Controls save nothing and are not tested. A variant that is no
    cheaper claims no saving, and keeps the decision of its own test, as does one that is not to be tested.

    Args:
        reference: The reference.
        variants: All other variants.
        own: Decision of each variant's test by itself, by id.

    Returns:
        Decisions by id.
    """
    candidates: dict[tuple[float, float], Variant] = {}
    for variant in variants:
        if is_cheaper(variant, reference) and not variant.control and own[variant.id].tested:
            rival = candidates.get(cost(variant))
            if rival is None or _preference(variant) >= _preference(rival):
                candidates[cost(variant)] = variant
    decisions = {v.id: _outside(v, own[v.id], reference, candidates) or own[v.id] for v in variants}
    ordered = {variant.id: variant for variant in sorted(candidates.values(), key=cost, reverse=True)}

    def dearer(refused: str, name: str) -> str:
        more = cost(ordered[refused])[0] > cost(ordered[name])[0]
        return "takes more MACs" if more else "takes more bit operations"

    return decisions | stop_at_refusal({name: own[name] for name in ordered}, dearer)


def _costs_more(refused: str, name: str) -> str:
    return "costs more"


def stop_at_refusal(own: Mapping[str, Grant], dearer: Callable[[str, str], str] = _costs_more) -> dict[str, Grant]:
    """Decide on tests in a fixed sequence: after the first refusal nothing is tested. What is not to be ends nothing.

    Args:
        own: Decision of each test by itself, by id, from the dearest to the cheapest.
        dearer: Says in which cost a refused one is dearer than a later one, of two ids.
    """
    decisions: dict[str, Grant] = {}
    refused: str | None = None
    for name, decision in own.items():
        if refused and decision.tested:
            reason = f"not tested, because {refused}, which {dearer(refused, name)}, is not shown to be as accurate"
            decision = Grant(False, reason, tested=False)
        elif decision.tested and not decision.granted:
            refused = name
        decisions[name] = decision
    return decisions


def _outside(
    variant: Variant, own: Grant, reference: Variant, candidates: Mapping[tuple[float, float], Variant]
) -> Grant | None:
    """Decide on a variant that is cheaper, but not in the sequence; None where its own decision stays."""
    if not own.tested or not is_cheaper(variant, reference):
        return None
    if variant.control:
        return Grant(False, f"not tested: it is a control of {variant.control.of}", tested=False)
    best = candidates[cost(variant)]
    if best.id == variant.id:
        return None
    better = "is no less accurate on validation" if best.validation and variant.validation else "comes later"
    if _preference(best)[0] > _preference(variant)[0]:
        better = "has a file that was run here"
    return Grant(False, f"not tested: {best.id} costs the same and {better}", tested=False)


def _preference(variant: Variant) -> tuple[bool, float]:
    """Whether a file of a variant was run here, which one to deploy has to be, then its accuracy on validation."""
    was_run = any(file.top1 is not None for file in variant.artifacts)
    return was_run, variant.validation.top1 if variant.validation else 0.0
