"""Lineage: which variant was made from which, by what kind of stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.report import formats as f
from compress.report.formats import field

_MADE_BY = {
    "teacher": "taken as it is",
    "train": "trained on labels",
    "distill": "distilled",
    "prune": "pruned",
    "sparsify": "weights set to zero",
    "shrink": "trained from scratch at the same share of the width",
    "quantize": "quantized",
}


@dataclass(frozen=True)
class Made:
    """A variant with how it was made, its main figures, the runtimes it has files for, and what was made of it."""

    name: str
    how: str
    figures: str
    files: str
    children: tuple[Made, ...]


def lineage(results: Mapping[str, Any]) -> tuple[Made, ...]:
    """The trees of variants; a variant whose parent is not there, or that would be its own ancestor, is a root."""
    variants = [variant for variant in results.get("variants") or [] if isinstance(variant, Mapping)]
    names = {variant.get("id") for variant in variants}
    roots = [v for v in variants if v.get("parent") not in names or _is_own_ancestor(v, variants)]
    return tuple(_made(root, variants, roots, results) for root in roots)


def _is_own_ancestor(variant: Mapping[str, Any], variants: list[Mapping[str, Any]]) -> bool:
    parents = {each.get("id"): each.get("parent") for each in variants}
    at = variant.get("parent")
    for _ in variants:
        if at == variant.get("id"):
            return True
        at = parents.get(at)
    return False


def _made(
    variant: Mapping[str, Any],
    variants: list[Mapping[str, Any]],
    roots: list[Mapping[str, Any]],
    results: Mapping[str, Any],
) -> Made:
    children = [v for v in variants if v.get("parent") == variant.get("id") and all(v is not root for root in roots)]
    kind = variant.get("kind")
    used = field(results, "run", "from_store")
    how = _MADE_BY.get(str(kind), f.text(kind))
    if used is not None:
        how += ", from the store" if variant.get("id") in used else ", in this run"
    files = [f.text(artifact.get("runtime")) for artifact in variant.get("artifacts") or []]
    return Made(
        f.text(variant.get("id")),
        how,
        f"{f.accuracy(variant.get('accuracy'))} top-1, {f.macs(field(variant, 'inference', 'macs'))}, "
        f"{f.size(field(variant, 'inference', 'bytes'))}",
        ", ".join(files),
        tuple(_made(child, variants, roots, results) for child in children),
    )
