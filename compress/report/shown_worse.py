"""Lines on what is shown to be worse than the reference beyond top-1; none where nothing is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from compress.report import formats as f
from compress.report.corruptions import CorruptionRow, beyond, corruption_rows, worse_corruptions
from compress.report.file_rows import C, F, FileRow, shown_reference
from compress.report.ood import OodRow, auroc_text, ood_rows, worse_scores
from compress.report.quality import Row, quality_rows
from compress.results import RunRecord

MAX_NAMED = 2  # classes or corruptions of a variant; of more, only the one that lost most


def shown_worse(record: RunRecord) -> Iterator[str]:
    """State in which variants confidence, or accuracy in classes or under corruptions, is shown to be worse."""
    rows, reference = quality_rows(record), f.plain(shown_reference(record))
    if worse := _described(rows, _confidence):
        yield f"Confidence is shown to be worse than that of {reference} in {worse}."
    if lost := _described(rows, _classes):
        yield f"Accuracy against {reference} is shown to be lost by {lost}."
    if hurt := _described(corruption_rows(record), _corruptions):
        yield f"Beyond the loss on the images as they are, accuracy against {reference} is shown to be lost by {hurt}."
    if blind := _described(ood_rows(record), _ood):
        yield f"Out-of-distribution detection is shown to be worse than that of {reference} in {blind}."


def _described(rows: Sequence[FileRow[F, C]], write: Callable[[FileRow[F, C]], str]) -> str:
    """Describe the files that `write` has a text for; those of a variant with the same text together."""
    files: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if text := write(row):
            files.setdefault((row.variant, text), []).extend(row.files)
    return "; ".join(
        f"{f.plain(variant)}{_where(rows, variant, names)}: {text}" for (variant, text), names in files.items()
    )


def _where(rows: Sequence[FileRow[F, C]], variant: str, files: Sequence[str]) -> str:
    """Name the files, unless they are all of the variant."""
    every = [name for row in rows if row.variant == variant for name in row.files]
    return "" if len(files) == len(every) else f" in {f.names(files)}"


def _confidence(row: Row) -> str:
    """ECE 7.1% (6.0 to 8.2%), 6.3 points overconfident."""
    if row.change is None or not row.change.ece.worse:
        return ""
    found = row.found.confidence
    low, high = found.overconfidence_ci95
    side = f", {100 * abs(found.overconfidence):.1f} points {'over' if low > 0 else 'under'}confident"
    return f"ECE {f.accuracy(found.ece, found.ece_ci95)}" + (side if low > 0 or high < 0 else "")


def _classes(row: Row) -> str:
    """cat −12.0 points; or of many: 7 classes, most in cat (−12.0 points)."""
    lost = row.change.lost if row.change else ()
    if not lost or row.change is None:
        return ""
    named = [f"{f.plain(each.name)} −{100 * each.difference:.1f} points" for each in lost]
    if len(named) <= MAX_NAMED:
        return " and ".join(named)
    return f"{len(named) + row.change.lost_left_out} classes, most in {named[0]}"


def _ood(row: OodRow) -> str:
    """AUROC by softmax 81.0% (79.1 to 82.8%)."""
    return " and ".join(f"AUROC by {score} {auroc_text(score, row)}" for score in worse_scores(row))


def _corruptions(row: CorruptionRow) -> str:
    """under JPEG −12.3 points; or of many: under 5 corruptions, most under JPEG −12.3 points."""
    worse = worse_corruptions(row.change) if row.change else []
    if len(worse) > MAX_NAMED:
        return f"under {len(worse)} corruptions, most under {beyond(worse[0])}"
    return "under " + " and ".join(map(beyond, worse)) if worse else ""
