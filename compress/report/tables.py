"""The tables of a run: which columns there are and how each figure is written, for terminal, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.report import energy
from compress.report import formats as f
from compress.report.formats import field

Record = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """A column: its heading, how a row's text is made, and whether it holds figures (which are set to the right)."""

    heading: str
    write: Callable[[Record], str]
    figure: bool = True


@dataclass(frozen=True)
class Table:
    """A table that is ready to be shown.

    Attributes:
        key: Short name, fit for an HTML id.
        title: Heading.
        note: What the reader must know to read it right; may be empty.
        headings: [columns].
        figures: [columns], which columns hold figures.
        rows: [rows, columns] of plain text, not escaped for anything.
    """

    key: str
    title: str
    note: str
    headings: tuple[str, ...]
    figures: tuple[bool, ...]
    rows: tuple[tuple[str, ...], ...]


def at(write: Callable[[Any], str], *path: str) -> Callable[[Record], str]:
    """Make a column's text from the value at a path of keys."""
    return lambda record: write(field(record, *path))


def _of(done: Any, total: Any) -> str:
    return f.UNKNOWN if done is None or total is None else f"{done}/{total}"


def _bits(record: Record) -> str:
    weights, activations = (_widths(record, f"{what}_bits") for what in ("weight", "activation"))
    return weights if weights == activations else f"{weights} (activations {activations})"


def _widths(record: Record, key: str) -> str:
    """Every width that there is, the narrowest first."""
    found = {row[key] for row in field(record, "inference", "widths") or [] if row.get(key)}
    return " and ".join(map(f.text, sorted(found))) or f.text(field(record, "inference", key))


def _teacher_share(record: Record) -> float | None:
    total, parts = field(record, "training", "macs"), field(record, "training", "parts")
    if not total or parts is None:
        return None
    teacher = sum(part.get("macs") or 0 for part in parts if "teacher" in str(part.get("what")).lower())
    return float(teacher / total)


def _ratio(row: Record) -> str:
    return f.times(row.get("ratio_to_reference")) + f.interval(row.get("ratio_ci95"))


VARIANTS = (
    Column("variant", at(f.text, "id"), False),
    Column("kind", at(f.text, "kind"), False),
    Column("top-1 (95% interval)", at(f.accuracy, "accuracy")),
    Column("MACs", at(f.count, "inference", "macs")),
    Column("bit operations", at(f.count, "inference", "bit_operations")),
    Column("parameters", at(f.count, "inference", "params")),
    Column("size", at(f.size, "inference", "bytes")),
    Column("weight bits", _bits),
    Column(
        "quantized convolutions",
        lambda r: _of(field(r, "inference", "quantized_convs"), field(r, "inference", "total_convs")),
    ),
    Column("training MACs", at(f.count, "training", "macs")),
    Column("of them the teacher's", lambda r: f.percent(_teacher_share(r))),
    Column("peak memory", at(f.size, "inference", "peak_memory_bytes")),
)

PUBLISHED = Column("published by others", at(f.percent, "published", "top1"))
ENERGY = Column("energy an image", energy.per_image)
CARBON = Column("CO2e of a million images", energy.emissions)

ARTIFACTS = (
    Column("variant", at(f.text, "variant"), False),
    Column("runtime", at(f.text, "runtime"), False),
    Column("format", at(f.text, "format"), False),
    Column("size", at(f.size, "bytes")),
    Column("top-1", lambda r: f.plain(r["not_run"]) if r.get("not_run") else f.percent(r.get("top1"))),
    Column("same answer as PyTorch", at(f.percent, "top1_agreement")),
    Column("largest difference", at(f.small, "max_abs_diff")),
    Column("MACs in integer", at(f.percent, "integer_macs_share")),
    Column("file", at(f.text, "path"), False),
)

LATENCY = (
    Column("batch", at(f.text, "batch")),
    Column("runtime", at(f.text, "runtime"), False),
    Column("variant", at(f.text, "variant"), False),
    Column("precision", at(f.text, "precision"), False),
    Column("median", at(f.milliseconds, "p50_ms")),
    Column("99th percentile", at(f.milliseconds, "p99_ms")),
    Column("times faster (95% interval)", _ratio),
    Column("threads", at(f.text, "threads")),
    Column("pixels", at(f.text, "resolution")),
)

WORTH = (
    Column("variant", at(f.text, "id"), False),
    Column("granted", lambda r: grant_word(r), False),
    Column("accuracy lost (95% interval)", lambda r: f.points(r.get("accuracy_difference"), r.get("difference_ci95"))),
    Column("at most, exactly", lambda r: _bound(r.get("exact_upper_bound"))),
    Column("doublings, MACs", at(f.signed, "doublings", "macs")),
    Column("bit operations", at(f.signed, "doublings", "bit_operations")),
    Column("latency", at(f.signed, "doublings", "latency")),
    Column("energy", energy.doublings),
    Column("months of growth", lambda r: f.months(r.get("months_of_growth")) if is_saving(r) else "none"),
    Column("break-even", lambda r: break_even(r)),
)


def is_saving(record: Mapping[str, Any]) -> bool:
    """Whether a variant's entry is as accurate as the reference *and* cheaper in MACs or bit operations."""
    saved = [field(record, "doublings", cost) or 0.0 for cost in ("macs", "bit_operations")]
    return bool(record.get("granted")) and max(saved) > 0


def grant_word(record: Mapping[str, Any]) -> str:
    """Whether the saving is granted, in words; a variant that is as accurate but dearer saves nothing."""
    if not record.get("granted"):
        return "not granted"
    return "granted" if is_saving(record) else "as accurate, not cheaper"


def _bound(share: float | None) -> str:
    return f.UNKNOWN if share is None else f"{100 * share:.1f} points".replace("-", "−")


def break_even(record: Record) -> str:
    """After how many queries the making of a variant has paid, in words."""
    queries, saved = record.get("break_even_queries"), field(record, "doublings", "macs")
    if queries is None:
        return "never: not cheaper" if saved is not None and saved <= 0 else f.UNKNOWN
    return f"{f.queries(queries)} queries"


def make(key: str, title: str, note: str, columns: Sequence[Column], records: Iterable[Record]) -> Table:
    """Lay records out as a table; one row a record."""
    return Table(
        key,
        title,
        note,
        tuple(column.heading for column in columns),
        tuple(column.figure for column in columns),
        tuple(tuple(column.write(record) for column in columns) for record in records),
    )


def variants_table(results: Mapping[str, Any]) -> Table:
    """Every variant with its accuracy, costs and size."""
    note = (
        "Accuracy on the test images, with Wilson's interval. One MAC is one multiply-accumulate, per image. Bit "
        "operations are MACs × weight bits × activation bits. Training is all compute spent to make the variant."
    )
    variants = results.get("variants") or []
    for variant in variants:
        if left_out := field(variant, "inference", "uncounted_operators"):
            note += (
                f" Operators not counted in any MACs of {f.plain(variant.get('id'))}: {f.plain(', '.join(left_out))}."
            )
    published = (PUBLISHED,) if any(variant.get("published") for variant in variants) else ()
    drawn = (ENERGY,) if energy.is_known(variants) else ()
    emitted = (CARBON,) if any(field(variant, "inference", "carbon") for variant in variants) else ()
    columns = (*VARIANTS[:3], *published, *VARIANTS[3:], *drawn, *emitted)
    return make("variants", "Variants", note + energy.note(variants), columns, variants)


def artifacts_table(results: Mapping[str, Any]) -> Table:
    """Every deployable file, evaluated in its own runtime."""
    note = (
        "Each file that runs here was run in its own runtime on the test images. The largest difference is between the "
        "logits. MACs in integer are the share of the multiply-accumulates of convolutions and linears that the "
        "runtime really computes with integers, by its own executed graph: the rest of a quantized network runs in "
        "float."
    )
    chosen = [line for variant in results.get("variants") or [] if (line := choice_line(variant))]
    note += "".join(f" {line}" for line in chosen)
    return make("artifacts", "Deployable files", note, ARTIFACTS, _nested(results, "artifacts"))


def choice_line(variant: Mapping[str, Any]) -> str:
    """Of `runtimes: auto`: which runtime to take a variant to at which batch; empty where none was chosen."""
    rows = variant.get("choices") or []
    if not rows:
        return ""
    parts = []
    for row in rows:
        tied = f" (as fast within the interval: {f.plain(', '.join(row['tied']))})" if row.get("tied") else ""
        parts.append(f"{f.plain(row.get('runtime') or 'none')}{tied} at batch {f.text(row.get('batch'))}")
    allowed = f"{100 * rows[0]['allowed_loss']:g} points"
    return (
        f"The fastest file of {f.plain(variant.get('id'))}, of those that lose no more than {allowed} of its accuracy "
        f"on validation, timed in turns: {', '.join(parts)}."
    )


def latency_table(results: Mapping[str, Any]) -> Table:
    """Latency of every variant per runtime and batch, so that what compares stands together."""
    rows = list(_nested(results, "inference", "latency"))
    rows.sort(key=lambda row: (row.get("batch") or 0, str(row.get("runtime"))))
    reference = first_reference(results)
    against = f"against {f.plain(reference)} in the same runtime and batch" if reference else "against the reference"
    return make("latency", "Latency", f"Time of one batch, measured in turns; {against}.", LATENCY, rows)


def worth_table(entry: Mapping[str, Any]) -> Table:
    """What every variant saves against one reference."""
    reference, trend = f.plain(entry.get("reference")), entry.get("trend") or {}
    allowed = 100 * (entry.get("tolerance") or 0)
    note = (
        f"Granted where a variant is shown to lose no more of {reference}'s accuracy than {allowed:g} "
        f"{'point' if allowed == 1 else 'points'} on the same images"
        + (f" ({f.plain(entry['interval_method'])})" if entry.get("interval_method") else "")
        + (
            f"; the exact bound of the loss beside it: {f.plain(entry['exact_method'])}"
            if entry.get("exact_method")
            else ""
        )
        + ". A doubling is log2 of how many times cheaper; the columns stand side by side and do not multiply. "
        "Doublings of what is not granted are at another accuracy: arithmetic, no saving. Months of growth are those "
        f"in which training compute grows by the doublings of MACs, at {f.text(trend.get('growth'))} times a year "
        f"({f.text(trend.get('name'))}). Break-even is when the saved MACs have repaid the variant's training."
    )
    note += _bases(entry, "latency") + _bases(entry, "energy")
    return make(f"worth-{reference}", f"Worth against {reference}", note, WORTH, entry.get("variants") or [])


def _bases(entry: Mapping[str, Any], cost: str) -> str:
    """In which runtime and batch the doublings of a cost were found; empty where there are none."""
    bases: dict[str, list[str]] = {}
    for record in entry.get("variants") or []:
        if record.get(f"{cost}_basis"):
            bases.setdefault(_basis(record[f"{cost}_basis"]), []).append(f.plain(record.get("id")))
    joined = "; ".join(_joined(basis, ids) for basis, ids in bases.items())
    return f" Doublings of {cost} are from {joined}." if bases else ""


def _joined(basis: str, ids: list[str]) -> str:
    return f"{basis} ({', '.join(ids)})"


def _basis(basis: Record) -> str:
    return (
        f"{f.text(basis.get('runtime'))} at batch {f.text(basis.get('batch'))}, "
        f"{f.text(basis.get('precision'))} against {f.text(basis.get('reference_precision'))}"
        + (f", {f.plain(basis['method'])}" if basis.get("method") else "")
    )


def first_reference(results: Mapping[str, Any]) -> str | None:
    """The variant that the ratios of latency are against: the recipe's first reference."""
    entries = results.get("efficiency") or []
    return entries[0].get("reference") if entries else None


def _nested(results: Mapping[str, Any], *path: str) -> Iterable[Record]:
    """Rows of a list that every variant has, each with the variant's id."""
    for variant in results.get("variants") or []:
        for row in field(variant, *path) or []:
            yield {**row, "variant": variant.get("id")}
