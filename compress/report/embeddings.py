"""Table of the embeddings of networks and files that end in their teacher's embedding space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from compress.efficiency.files import is_quantized
from compress.registry import PYTORCH
from compress.report import formats as f
from compress.report.tables import Column, Table, make_table
from compress.results import EmbeddingFigures, Embeddings, RecallAt, RunRecord
from compress.utils.precision import file_name


@dataclass(frozen=True)
class EmbeddingRow:
    """Embeddings of a network or files."""

    variant: str
    files: tuple[str, ...]  # names of the files with these figures; pytorch is the network itself
    figures: EmbeddingFigures


def _zero_shot(row: EmbeddingRow, images: str) -> str:
    found = next((each for each in row.figures.zero_shot if each.images == images), None)
    return f.accuracy(found.top1, found.ci95) if found else "n/a"


def _recalls(recalls: tuple[RecallAt, ...]) -> str:
    return " / ".join(f.percent(each.recall) for each in recalls) or "n/a"


def _of_teacher(row: EmbeddingRow, key: str, form: str) -> str:
    if not isinstance(row.figures, Embeddings):
        return "teacher"
    value = getattr(row.figures, key)
    return "n/a" if value is None else format(value, form)


FIRST: tuple[Column[EmbeddingRow], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("files", lambda r: f.names(r.files), False),
    Column("zero-shot (95%)", lambda r: _zero_shot(r, "trained")),
)
WITH_HELD_OUT: tuple[Column[EmbeddingRow], ...] = (
    Column("zero-shot, held-out images (95%)", lambda r: _zero_shot(r, "held-out")),
    Column("zero-shot, all images (95%)", lambda r: _zero_shot(r, "all")),
)
LAST: tuple[Column[EmbeddingRow], ...] = (
    Column("image to image", lambda r: _recalls(r.figures.image_to_image), False),
    Column("image to text", lambda r: _recalls(r.figures.image_to_text), False),
    Column("cosine to teacher", lambda r: _of_teacher(r, "cosine", ".3f")),
    Column("rank correlation", lambda r: _of_teacher(r, "rank_correlation", ".3f")),
)


def embedding_tables(record: RunRecord) -> list[Table]:
    """Lay out the figures of embeddings; nothing where no variant gives any."""
    rows = list(_rows(record))
    if not rows:
        return []
    held = record.data.held_out or ()
    columns = (*FIRST, *(WITH_HELD_OUT if held else ()), *LAST)
    first = next(row.figures for row in rows if isinstance(row.figures, Embeddings))
    return [make_table("embeddings", "Embeddings", _note(record, first), columns, _merged(rows, columns))]


def _note(record: RunRecord, first: Embeddings) -> str:
    held = [f.plain(name) for name in record.data.held_out or ()]
    asked = f" {f.names(held)} were held out: their images are classified among all names." if held else ""
    ks = " / ".join(str(each.k) for each in first.image_to_image)
    texts = " / ".join(str(each.k) for each in first.image_to_text)
    macs = first.width * len(record.data.classes)
    images = f"Image to image: share of {first.images:,} test images that have another one of their class among the"
    return (
        f"Zero-shot top-1 on test images, by the nearest text embedding of {len(record.data.classes)} classes.{asked} "
        + (f"{images} {ks} nearest. " if ks else "")
        + (f"Image to text: share whose class is among the {texts} nearest. " if texts else "")
        + "Rank correlation: Spearman's, of the similarities of pairs of images with the teacher's. "
        + f"MACs include the product with the class list, {macs:,} per image."
    )


def _rows(record: RunRecord) -> Iterator[EmbeddingRow]:
    """Yield the rows of networks and files, each teacher's own first."""
    named: set[str] = set()
    by_id = {variant.id: variant for variant in record.variants}
    for variant in record.variants:
        own = variant.embeddings
        if own is None:
            continue
        parent = variant.parent
        if own.teacher and parent in by_id and by_id[parent].embeddings is None and parent not in named:
            named.add(parent)
            yield EmbeddingRow(parent, (PYTORCH,), own.teacher)
        files = [(file_name(each.runtime, each.precision), each.embeddings) for each in variant.artifacts]
        found = [(name, figures) for name, figures in files if figures]
        if not (found and is_quantized(variant)):  # PyTorch only simulates the files
            found.insert(0, (PYTORCH, own))
        for name, figures in found:
            yield EmbeddingRow(variant.id, (name,), figures)


def _merged(rows: list[EmbeddingRow], columns: tuple[Column[EmbeddingRow], ...]) -> list[EmbeddingRow]:
    """Merge the files of a variant that have the same cells."""
    merged: dict[tuple[str, ...], EmbeddingRow] = {}
    for row in rows:
        cells = tuple(column.write(row) for column in columns if column.heading != "files")
        merged[cells] = replace(merged[cells], files=merged[cells].files + row.files) if cells in merged else row
    return list(merged.values())
