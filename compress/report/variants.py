"""Tables of the variants, their artifacts and their latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from compress.efficiency.files import is_quantized, name_of
from compress.efficiency.slower import AgainstFloat, against_float
from compress.report import energy
from compress.report import formats as f
from compress.report.latency_chart import latency_svg
from compress.report.savings import file_grant, first_reference
from compress.report.tables import Column, Table, VariantRow, make_table, variant_rows
from compress.results import Artifact, LatencyRow, RunRecord, RuntimeChoice, Variant
from compress.utils.precision import HALF, file_name


def _bits(variant: Variant) -> str:
    inference = variant.inference
    weights = _widths(inference.weight_bits, [row.weight_bits for row in inference.widths or ()])
    activations = _widths(inference.activation_bits, [row.activation_bits for row in inference.widths or ()])
    return weights if weights == activations else f"{weights} (activations {activations})"


def _widths(lowest: int, by_layer: list[int | None]) -> str:
    """All bit widths, the narrowest first."""
    return " and ".join(map(str, sorted({bits for bits in by_layer if bits}))) or str(lowest)


def _teacher_share(variant: Variant) -> str:
    training = variant.training
    teacher = sum(part.macs for part in training.parts if "teacher" in part.what.lower())
    return f.percent(teacher / training.macs if training.macs else None)


def _training_macs(variant: Variant) -> str:
    before = variant.training.teacher_pretraining  # of a network that existed before the run
    unknown = before is not None and before.macs is None and not variant.training.macs
    return "not stated" if unknown else f.count(variant.training.macs)


def _bit_operations(variant: Variant) -> str:
    """Mark those of a quantized network of which no file was run here."""
    simulated = is_quantized(variant) and all(file.top1 is None for file in variant.artifacts)
    return f.count(variant.inference.bit_operations) + (" (simulated)" if simulated else "")


VARIANTS: tuple[Column[Variant], ...] = (
    Column("variant", lambda v: f.plain(v.id), False),
    Column("kind", lambda v: f.plain(v.kind), False),
    Column("top-1 (95% interval)", lambda v: f.accuracy(v.accuracy.top1, v.accuracy.ci95)),
    Column("on validation", lambda v: f.percent(v.validation.top1 if v.validation else None)),
    Column("MACs", lambda v: f.count(v.inference.macs)),
    Column("bit operations", _bit_operations),
    Column("parameters", lambda v: f.count(v.inference.params)),
    Column("size", lambda v: f.size(v.inference.bytes)),
    Column("weight bits", _bits),
    Column("quantized convolutions", lambda v: f"{v.inference.quantized_convs}/{v.inference.total_convs}"),
    Column("training MACs", _training_macs),
    Column("of which teacher", _teacher_share),
    Column("peak memory", lambda v: f.size(v.inference.peak_memory_bytes)),
)
PUBLISHED: Column[Variant] = Column("published top-1", lambda v: f.percent(v.published.top1 if v.published else None))
ENERGY: Column[Variant] = Column("energy per image", energy.per_image)
CARBON: Column[Variant] = Column("CO2e per million images", energy.emissions)

ARTIFACTS: tuple[Column[VariantRow[Artifact]], ...] = (
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("runtime", lambda r: f.plain(r.part.runtime), False),
    Column("precision", lambda r: f.plain(r.part.precision or ""), False),
    Column("format", lambda r: f.plain(r.part.format), False),
    Column("size", lambda r: f.size(r.part.bytes)),
    Column("top-1", lambda r: f.plain(r.part.not_run) if r.part.not_run else f.percent(r.part.top1)),
    Column("agreement with PyTorch", lambda r: f.percent(r.part.top1_agreement)),
    Column("largest logit difference", lambda r: f.small(r.part.max_abs_diff)),
    Column("MACs in integer", lambda r: f.percent(r.part.integer_macs_share)),
    Column("ran in", lambda r: _ran_in(r.part), False),
    Column("needs", lambda r: f.plain("; ".join(r.part.needs)), False),
    Column("file", lambda r: f.plain(r.part.path), False),
)

METHOD: Column[VariantRow[Artifact]] = Column("quantized by", lambda r: f.plain(r.part.method or ""), False)

LATENCY: tuple[Column[VariantRow[LatencyRow]], ...] = (
    Column("batch", lambda r: str(r.part.batch)),
    Column("runtime", lambda r: f.plain(r.part.runtime), False),
    Column("variant", lambda r: f.plain(r.variant), False),
    Column("precision", lambda r: f.plain(r.part.precision), False),
    Column("median", lambda r: f.milliseconds(r.part.p50_ms)),
    Column("99th percentile", lambda r: f.milliseconds(r.part.p99_ms)),
    Column("speedup (95% interval)", lambda r: f.times(r.part.ratio_to_reference) + f.interval(r.part.ratio_ci95)),
    Column("processes", lambda r: _processes(r.part)),
    Column("autocorrelation", lambda r: _correlation(r.part)),
    Column("threads", lambda r: str(r.part.threads)),
    Column("resolution", lambda r: str(r.part.resolution)),
)


def _ran_in(file: Artifact) -> str:
    """Precisions that a file ran in, with their shares of the MACs where there are several."""
    shares = file.macs_by_precision
    if not shares:
        return f.UNKNOWN
    names = [name if len(shares) == 1 else f"{name} {f.percent(share)}" for name, share in shares.items()]
    casts = f", {file.casts} cast{'s' * (file.casts > 1)}" if file.casts and file.precision in HALF else ""
    return f.plain(", ".join(names) + casts)


def _processes(row: LatencyRow) -> str:
    """Number of processes; of a row with several modes, the median of each."""
    medians = row.process_p50_ms
    if not row.split:
        return f.text(len(medians) or None)
    return f"{len(medians)}, several modes: {', '.join(map(f.milliseconds, medians))}"


def _correlation(row: LatencyRow) -> str:
    return f.UNKNOWN if row.autocorrelation is None else f"{row.autocorrelation:.2f}"


def _over_float(ratios: Mapping[tuple[str, int], AgainstFloat], row: LatencyRow) -> str:
    """Speedup of a quantized file over its FP32 file, with a word where it is slower; empty for other files."""
    if (entry := ratios.get((row.runtime, row.batch))) is None:
        return ""
    return f.times(entry.ratio.ratio) + (", slower: do not deploy at this batch" if entry.slower else "")


def variants_table(record: RunRecord) -> Table:
    """Lay out accuracy, costs and size of every variant."""
    note = (
        "Accuracy on the test images, with Wilson's score interval. MACs are multiply-accumulates per image, bit "
        "operations MACs × weight bits × activation bits. Training MACs are all compute spent to make the variant."
    )
    variants = record.variants
    for variant in variants:
        if uncounted := variant.inference.uncounted_operators:
            note += f" Operators not counted in any MACs of {f.plain(variant.id)}: {f.names(uncounted)}."
    published = (PUBLISHED,) if any(variant.published for variant in variants) else ()
    joules = (ENERGY,) if energy.is_known(variants) else ()
    carbon = (CARBON,) if any(variant.inference.carbon for variant in variants) else ()
    columns = (*VARIANTS[:3], *published, *VARIANTS[3:], *joules, *carbon)
    return make_table("variants", "Variants", note + energy.note(variants), columns, variants)


def artifacts_table(record: RunRecord) -> Table:
    """Lay out every deployable file, evaluated in its own runtime."""
    note = (
        "Every file whose runtime is installed was evaluated there on the test images. Agreement is the share of "
        "images with the prediction of the network in PyTorch that the file was made from: the variant's, or the float "
        "one if the file was quantized by another method than the variant. MACs in integer are the share of the "
        "multiply-accumulates of convolutions and linears that the runtime executes in integer, read from its own "
        "graph; the rest runs in float. Ran in: the precision of that arithmetic, which is not the file's where this "
        "machine has no units for it. Needs: the oldest versions that read the file."
    )
    note += "".join(f" {choice_line(variant.id, variant.choices)}" for variant in record.variants if variant.choices)
    rows = variant_rows(record, lambda variant: variant.artifacts)
    empty = "No files were exported; add an `export` stage to the recipe."
    methods = (METHOD,) if any(row.part.method for row in rows) else ()
    columns = (*ARTIFACTS[:7], *methods, *ARTIFACTS[7:])
    return make_table("artifacts", "Deployable files", note, columns, rows, empty=empty)


def choice_line(variant: str, choices: Sequence[RuntimeChoice]) -> str:
    """Describe the runtimes that `runtimes: auto` chose for a variant, by batch; empty where none was chosen."""
    if not choices:
        return ""
    parts = []
    for choice in choices:
        tied = f" (as fast within the interval: {f.names(choice.tied)})" if choice.tied else ""
        chosen = file_name(choice.runtime, choice.precision) if choice.runtime else "none"
        parts.append(f"{f.plain(chosen)}{tied} at batch {choice.batch}")
    slow = any(candidate.slower_than_fp32 for choice in choices for candidate in choice.candidates)
    unless = " and are not slower than in FP32" if slow else ""
    return (
        f"Fastest file of {f.plain(variant)} among those that lose at most {100 * choices[0].allowed_loss:g} points of "
        f"validation accuracy{unless}: "
        f"{', '.join(parts)}."
    )


def latency_table(record: RunRecord) -> Table:
    """Lay out the latency of every variant by batch and runtime, so that comparable rows are adjacent."""
    rows = variant_rows(record, lambda variant: variant.inference.latency)
    granted: Column[VariantRow[LatencyRow]] = Column(
        f"against {f.plain(record.headline.reference or 'the reference')}",
        lambda row: file_grant(record, row.variant, name_of(row.part)),
        False,
    )
    rows.sort(key=lambda row: (row.part.batch, row.part.runtime))
    reference = first_reference(record)
    ratios = {name: {entry[:2]: entry for entry in timed} for name, timed in against_float(record.variants).items()}
    against: Column[VariantRow[LatencyRow]] = Column(
        "over its FP32 file", lambda row: _over_float(ratios.get(row.variant, {}), row.part)
    )
    over = f"over {f.plain(reference)} in the same runtime and batch size" if reference else "over the reference"
    note = (
        f"Time of one batch, in interleaved rounds of several processes; speedup {over}. Its interval is over "
        "processes and rounds, or over rounds only where there is one process. The 99th percentile is of 300 or more "
        "single runs. Autocorrelation is that of successive rounds. Granted: the file itself is as accurate."
    )
    columns = (*LATENCY[:5], granted, *LATENCY[5:7], *((against,) if any(ratios.values()) else ()), *LATENCY[7:])
    return make_table("latency", "Latency", note, columns, rows, partial(latency_svg, record), "Nothing was timed.")
