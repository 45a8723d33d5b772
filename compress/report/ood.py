"""Table of out-of-distribution detection, against the headline's reference."""

from __future__ import annotations

from functools import partial

from compress.data.left_out import left_out_line
from compress.efficiency.files import name_of
from compress.efficiency.ood import SCORES
from compress.report import formats as f
from compress.report.file_rows import FileRow, changes_by_file, merge_files, shown_reference
from compress.report.tables import Column, Table, make_table
from compress.results import OodChange, OodDetection, OodFile, RunRecord

OodRow = FileRow[OodFile, OodChange]


def auroc_text(score: str, row: OodRow) -> str:
    """91.2% (89.0 to 93.1%)."""
    found = getattr(row.found, score)
    return f.accuracy(found.auroc, found.ci95)


def worse_scores(row: OodRow) -> list[str]:
    """Return the scores in which a network or file is shown to be worse than the reference."""
    return [score for score in SCORES if row.change and getattr(row.change, score).worse]


def _lost(score: str, row: OodRow) -> str:
    if row.change is None:
        return "reference"
    loss = getattr(row.change, score)
    value, low, high = (f"{100 * each:.1f}".replace("-", "−") for each in (loss.difference, *loss.ci95))
    return f"{value} points ({low} to {high})"


def _worse(row: OodRow) -> str:
    if row.change is None:
        return "reference"
    return " and ".join(worse_scores(row)) or "none shown"


COLUMNS: tuple[Column[OodRow], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("files", lambda r: f.names(r.files), False),
    Column("AUROC by softmax (95%)", partial(auroc_text, "softmax")),
    Column("AUROC by energy (95%)", partial(auroc_text, "energy")),
    Column("lost by softmax (95%)", partial(_lost, "softmax")),
    Column("lost by energy (95%)", partial(_lost, "energy")),
    Column("shown to be worse by", _worse, False),
)


def ood_rows(record: RunRecord) -> list[OodRow]:
    """Return a row per network and file, with its change against the headline's reference."""
    found = record.ood
    if found is None:
        return []
    changes = changes_by_file(record, found.changes)
    return [
        OodRow(each.variant, (name_of(each),), each, changes.get((each.variant, each.runtime, each.precision)))
        for each in found.files
    ]


def _left_out(found: OodDetection) -> str:
    if found.left_out_by_reason:
        return f" Left out of the folder: {f.plain(left_out_line(found.left_out_by_reason))}."
    return f" {found.left_out:,} files of the folder were left out." if found.left_out else ""  # as earlier runs say it


def ood_tables(record: RunRecord) -> list[Table]:
    """Lay out how well images of none of the classes are told; nothing where it was not measured."""
    found = record.ood
    if found is None:
        return []
    note = (
        f"{found.test_images:,} test images against {found.images:,} images of none of the classes, at the same side: "
        "the probability that a test image has the higher score (50% is chance), by the maximum softmax probability "
        f"and by the energy of the logits. Lost: against {f.plain(shown_reference(record))} on the same images. Shown "
        f"at 5% with Holm's correction for both scores of all rows.{_left_out(found)}"
    )
    rows = merge_files(ood_rows(record), COLUMNS)
    return [make_table("ood", "Out-of-distribution images", note, COLUMNS, rows)]
