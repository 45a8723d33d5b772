"""Table of the files that are shown to reach the accuracies of `worth.targets`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from compress.efficiency import doublings
from compress.efficiency.files import File, files_of, name_of
from compress.report import formats as f
from compress.report.tables import Column, Table, make_table, variants_by_id
from compress.results import Artifact, RunRecord, Variant

NOTE = (
    "A file is shown to reach a target if the lower end of the 95% interval of its top-1 on the test images is not "
    "below it; each file by itself. Fewest MACs first. Doublings are log2 of the MACs of {reference} over its own, "
    "where both reach the target."
)


@dataclass(frozen=True)
class Row:
    """A file that was run on the test images, and a target."""

    target: float  # top-1, as a fraction
    variant: Variant
    file: Artifact
    doublings: float | None  # against the reference; None where one of the two is not shown to reach the target
    why: str  # why there are no doublings

    @property
    def reached(self) -> bool:
        return _reaches(self.file, self.target)


COLUMNS: tuple[Column[Row], ...] = (
    Column("target", lambda row: f.percent(row.target)),
    Column("variant", lambda row: f.plain(row.variant.id), False),
    Column("file", lambda row: f.plain(name_of(row.file)), False),
    Column("top-1", lambda row: f.accuracy(row.file.top1 or 0, row.file.ci95 or (0, 0))),
    Column("shown to reach it", lambda row: "yes" if row.reached else "no", False),
    Column("MACs", lambda row: f.macs(row.variant.inference.macs)),
    Column("size", lambda row: f.size(row.file.bytes)),
    Column("doublings", lambda row: row.why if row.doublings is None else f.signed(row.doublings)),
)


def target_tables(record: RunRecord) -> list[Table]:
    """Lay out which files reach the recipe's targets; no table where it has none, or where no file was run."""
    rows = list(_rows(record))
    reference = f.plain(record.efficiency[0].reference) if record.efficiency else "the reference"
    note = NOTE.format(reference=reference)
    return [make_table("targets", "Accuracy targets", note, COLUMNS, rows)] if rows else []


def _rows(record: RunRecord) -> Iterator[Row]:
    reference = variants_by_id(record).get(record.efficiency[0].reference) if record.efficiency else None
    files = [(variant, file) for variant in record.variants for file in variant.artifacts if file.ci95]
    files.sort(key=lambda each: (each[0].inference.macs or math.inf, each[1].bytes))
    for target in record.recipe.resolved.get("worth", {}).get("targets", []):
        for variant, file in files:
            why = _not_comparable(reference, variant, file, target)
            dense = reference.inference.macs if reference else 0
            yield Row(target, variant, file, None if why else doublings(dense / variant.inference.macs), why)


def _not_comparable(reference: Variant | None, variant: Variant, file: Artifact, target: float) -> str:
    """Say why there are no doublings; empty where there are. The reference's network in PyTorch counts too."""
    if not _reaches(file, target):
        return "none: not shown to reach it"
    if reference is None:
        return "none: no reference"
    if not any(_reaches(each, target) for each in files_of(reference)):
        return f"none: {f.plain(reference.id)} is not shown to reach it"
    return "" if reference.inference.macs and variant.inference.macs else "none: MACs were not counted"


def _reaches(file: Artifact | File, target: float) -> bool:
    return file.ci95 is not None and file.ci95[0] >= target
