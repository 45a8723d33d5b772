"""Lineage: which variant was made from which, and by what kind of stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compress.efficiency.files import name_of
from compress.recipe.stage import stage_sections
from compress.report import formats as f
from compress.report.tables import variants_by_id
from compress.results import RunRecord, Variant


@dataclass(frozen=True)
class LineageNode:
    """A variant: how it was made, its main figures, the runtimes it has files for, and the variants made from it."""

    name: str
    made_by: str
    figures: str
    runtimes: str
    children: tuple[LineageNode, ...]


def lineage(record: RunRecord) -> tuple[LineageNode, ...]:
    """Build the trees of variants. A variant without its parent in the run, or in a cycle of parents, is a root."""
    by_id = variants_by_id(record)
    children: dict[str | None, list[Variant]] = {}
    for variant in record.variants:
        is_root = variant.parent not in by_id or _is_own_ancestor(variant, by_id)
        children.setdefault(None if is_root else variant.parent, []).append(variant)

    def nodes(parent: str | None) -> tuple[LineageNode, ...]:
        return tuple(_node(child, record, nodes(child.id)) for child in children.get(parent, []))

    return nodes(None)


def ancestry(variant: Variant, by_id: Mapping[str, Variant]) -> list[Variant]:
    """The variant, its parent, and so on; ends before a variant would repeat."""
    line = [variant]
    while (parent := by_id.get(line[-1].parent or "")) and parent not in line:
        line.append(parent)
    return line


def hub_tag(kind: str) -> str | None:
    """Return the tag of the Hugging Face Hub for variants of a kind of stage; None where it has none."""
    return getattr(stage_sections().get(kind), "tag", None)


def _made_by(kind: str) -> str:
    """Return how a kind of stage makes a variant; its name where its plugin is not loaded."""
    return str(getattr(stage_sections().get(kind), "lineage", "")) or f.plain(kind)


def _is_own_ancestor(variant: Variant, by_id: Mapping[str, Variant]) -> bool:
    return ancestry(variant, by_id)[-1].parent == variant.id


def _node(variant: Variant, record: RunRecord, children: tuple[LineageNode, ...]) -> LineageNode:
    how = _made_by(variant.kind)
    if record.run.from_store is not None:
        how += ", from the store" if variant.id in record.run.from_store else ", in this run"
    return LineageNode(
        f.plain(variant.id),
        how,
        f"{f.accuracy(variant.accuracy.top1, variant.accuracy.ci95)} top-1, {f.macs(variant.inference.macs)}, "
        f"{f.size(variant.inference.bytes)}",
        f.names(name_of(artifact) for artifact in variant.artifacts),
        children,
    )


def remedy(kind: str) -> str:
    """Return what to try where a variant of a kind lost much accuracy."""
    return str(getattr(stage_sections().get(kind), "remedy", "")) or "other settings of its stage"
