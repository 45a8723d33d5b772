"""Tables of training: where its compute went, how efficient it was, and accuracy against the same compute on labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from compress.report import formats as f
from compress.report.pruning import ControlRow, control_columns
from compress.report.tables import Column, Table, VariantRow, make_table, variants_by_id
from compress.report.training_charts import curves_svg, spent_svg
from compress.results import PretrainingRatio, RunRecord, TrainingEfficiency, TrainingPart

SPENT: tuple[Column[VariantRow[tuple[TrainingPart, int]]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("what", lambda r: f.plain(r.part[0].what), False),
    Column("MACs", lambda r: f.macs(r.part[0].macs)),
    Column("share", lambda r: f.percent(r.part[0].macs / r.part[1] if r.part[1] else None)),
)

ORIGINS = {"variant": "its own", "baseline": "the baseline's", "recipe": "chosen"}

NO_BASELINE = "Not compared: this takes a variant that was trained here, and a `train` stage as the baseline."

REACHED: tuple[Column[TrainingEfficiency], ...] = (
    Column("variant", lambda t: _name(t), False),
    Column("baseline", lambda t: f.plain(t.baseline), False),
    Column("target top-1", lambda t: f"{f.percent(t.target_top1)} ({ORIGINS[t.target_of]})"),
    Column("variant's compute", lambda t: _compute(t.variant_macs, t.variant_between)),
    Column("baseline's compute", lambda t: _compute(t.baseline_macs, t.baseline_between)),
    Column("doublings (95% interval)", lambda t: doublings(t)),
    Column("by the measured points", lambda t: f.open_interval(t.bracket)),
    Column("months of growth", lambda t: _months(t, t.months_of_growth)),
    Column("months of gap", lambda t: _months(t, t.months_of_gap)),
)

TeacherRow = tuple[TrainingEfficiency, str, PretrainingRatio]

TEACHER: tuple[Column[TeacherRow], ...] = (
    Column("variant", lambda r: f.plain(r[0].variant), False),
    Column("teacher's own training", lambda r: r[1], False),
    Column("MACs added", lambda r: "unknown" if r[2].macs is None else f.macs(r[2].macs)),
    Column("doublings", lambda r: "unknown" if r[2].doublings is None else bounded(r[0], f.signed(r[2].doublings))),
)

MATCHED = control_columns("variant")


def training_tables(record: RunRecord) -> list[Table]:
    """Lay out the training ledger and its efficiency; further tables where the run has rows for them."""
    further = (_with_teacher(record), _matched(record))
    return [_spent(record), _reached(record), *(table for table in further if table.rows)]


def _spent(record: RunRecord) -> Table:
    rows = [
        VariantRow(variant.id, (part, variant.training.macs))
        for variant in record.variants
        for part in variant.training.parts
    ]
    note = "All compute spent to make a variant. The teacher's own training is not included"
    teachers = [variant.training.teacher_pretraining for variant in record.variants]
    known = {f"{f.macs(teacher.macs)} ({f.text(teacher.source)})" for teacher in teachers if teacher and teacher.macs}
    note += f": it took {' and '.join(sorted(known))}." if known else "."
    if starts := "; ".join(_starts(record)):
        note += f" Nor is that of the weights that networks start from: {starts}."
    if formats := "; ".join(_formats(record)):
        note += f" Number format and layout of the weights: {formats}."
    lost = ", ".join(
        f"{f.plain(variant.id)} {f.macs(variant.training.interrupted)}"
        for variant in record.variants
        if variant.training.interrupted
    )
    if lost:
        note += f" Lost to interruptions and not included: at least {lost}."
    return make_table("ledger", "Training ledger", note, SPENT, rows, partial(spent_svg, record))


def _starts(record: RunRecord) -> Iterator[str]:
    """Say what the weights took that variants start from."""
    for start in dict.fromkeys(variant.training.start_pretraining for variant in record.variants):
        if start:
            names = f.names(v.id for v in record.variants if v.training.start_pretraining == start)
            yield f"{names} {f.macs(start.macs)} ({f.text(start.source)})" if start.macs else f"{names} not stated"


def _formats(record: RunRecord) -> Iterator[str]:
    """Say what the fits of variants were computed in."""
    for precision in dict.fromkeys(variant.training.precision for variant in record.variants):
        if precision:
            yield f"{precision} ({f.names(v.id for v in record.variants if v.training.precision == precision)})"


def _reached(record: RunRecord) -> Table:
    rows = record.training_efficiency
    note = (
        "Training compute with which variant and baseline reach an accuracy on validation, interpolated between the "
        "last point of a curve before it and the first at it; doublings are positive where the variant took less. A "
        "variant counts from where it stays there, the baseline from where it is first, on the best of its curves; one "
        "quantized without training on its parent's curve, lowered to its own accuracy on validation. "
        "Points within a schedule have not had its last, lowest learning rates: only the end of a curve shows what "
        "that much training gives, so a target that a curve crosses midway looks dearer than it is. One run each: "
        "intervals are over validation images. "
    )
    if rows and not any(row.doublings_ci95 for row in rows):
        note += "There are none here, because the curves were stored without results per image. "
    if rows and not any(variant.control and variant.control.repeats for variant in record.variants):
        note += "No baseline had the compute of a variant; `worth.compute_matched: true` trains it for as long. "
    note += "Only savings in training compute delay the training gap, and only once; of doublings that leave out "
    note += "earlier training there are no months."
    return make_table("training", "Training efficiency", note, REACHED, rows, partial(curves_svg, record), NO_BASELINE)


def _with_teacher(record: RunRecord) -> Table:
    rows = [row for pair in record.training_efficiency if pair.primary for row in _teacher_rows(pair)]
    note = (
        "A teacher is trained once and can teach many students. At the variant's own accuracy, with nothing of its "
        "training counted, with its fine-tuning, and with all of it as if this variant were its only student; in full "
        "includes the training of published weights that the variant and the baseline start from."
    )
    return make_table("teacher", "With earlier training", note, TEACHER, rows)


def _teacher_rows(pair: TrainingEfficiency) -> Iterator[TeacherRow]:
    full, tuned = pair.with_teacher_pretraining, pair.with_teacher_fine_tuning
    if full.macs == 0 and full.doublings == pair.doublings:  # there is none
        return
    yield pair, "as 0", PretrainingRatio(macs=0, ratio=pair.ratio, doublings=pair.doublings)
    if tuned:
        yield pair, "fine-tuning only", tuned
    yield pair, "in full", full


def _matched(record: RunRecord) -> Table:
    variants = variants_by_id(record)
    rows = [
        ControlRow(variants[control.of], variant, control)
        for variant in variants.values()
        if (control := variant.control) and control.repeats and control.of in variants
    ]
    note = (
        "The control trains the baseline's network on labels for as many epochs as the whole training compute of the "
        "variant pays for, on the same test images. Where it is as accurate, the variant's way was no better."
    )
    return make_table("matched", "Against the same compute on labels", note, MATCHED, rows)


def doublings(pair: TrainingEfficiency) -> str:
    """Write doublings of training: a figure with its interval, a bound as a bound, or what they lie between."""
    if pair.censored == "both":
        return "neither reached it"
    if pair.doublings is None:
        return f.open_interval(pair.bracket)
    ends = f.open_interval(pair.doublings_ci95) if pair.doublings_ci95 else ""
    if pair.censored:
        return f"{bounded(pair, f.signed(pair.doublings))}; the {pair.censored} never reached it"
    return f.signed(pair.doublings) + (f" ({ends})" if ends else "")


def bounded(pair: TrainingEfficiency, figure: str) -> str:
    """Write a figure as the bound that it is where one of the two never reaches the target."""
    return f"{pair.bound} {figure}" if pair.bound else figure


def _name(pair: TrainingEfficiency) -> str:
    name, curve = f.plain(pair.variant), f.plain(pair.variant_curve or pair.variant)
    return name if name == curve else f"{name} (curve of {curve})"


def _months(pair: TrainingEfficiency, months: float | None) -> str:
    return "none" if months is None else f.months(months)


def _compute(macs: int | None, between: Sequence[int | None] | None) -> str:
    if macs is not None:
        return f.macs(macs)
    low, high = between or (None, None)
    if high is not None:
        return f"at most {f.macs(high)}"
    return "not reached" + (f" with {f.macs(low)}" if low else "")
