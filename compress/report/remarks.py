"""Remarks below the first sentence of a report: collapsed accuracy, other references, and what restricts the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from compress.efficiency.collapse import COLLAPSE, blame, next_steps
from compress.efficiency.files import counts_for_reference, name_of
from compress.efficiency.headline import cheapest, is_saving
from compress.efficiency.slower import against_float
from compress.efficiency.timing import Ratio
from compress.report import formats as f
from compress.report.lineage import ancestry, remedy
from compress.report.shown_worse import shown_worse
from compress.report.tables import variants_by_id
from compress.results import Failure, RunRecord, Savings, Variant
from compress.utils.messages import join_words


def warnings(record: RunRecord) -> list[str]:
    """Name what failed, and warn of variants and files that lost 10 points or more, and of files slower than FP32."""
    by_id, lines = variants_by_id(record), [_failure(each) for each in record.failed or ()]
    path = record.headline.file.path if record.headline.file else None
    for variant in record.variants:
        name, lost = f.plain(variant.id), _collapsed(variant, by_id)
        if lost:
            worst = _largest_step(variant, lost[1], by_id)
            where = "" if worst is variant else f", most of them by {f.plain(worst.id)}"
            against = f"{f.plain(lost[1].id)}{where}"
            lines.append(f"{name} lost {100 * lost[0]:.1f} points against {against}. {_advice(worst)}")
        elif lost := _collapsed_on_validation(variant, by_id):
            points = f"{100 * lost[0]:.1f} points on validation"
            lines.append(f"{name} lost {points} against {f.plain(lost[1].id)}. {_advice(variant)}")
        for file in variant.artifacts:
            drop = 0.0 if file.top1 is None else variant.accuracy.top1 - file.top1
            if round(drop, 9) >= COLLAPSE:
                against = f"{name} lost {100 * drop:.1f} points in {f.plain(name_of(file))} against PyTorch"
                deployed = (variant.id, file.path) == (record.headline.variant, path)
                advice = "" if deployed else ": do not deploy that file"
                lines.append(f"{against}{advice}. Try another runtime or quantizer.")
    return [*lines, *_slower(record)]


def _advice(variant: Variant) -> str:
    """Say what to try where a variant lost much accuracy, and why it did where that was measured."""
    quantization = variant.quantization
    steps = join_words(next_steps(quantization)) if quantization else ""
    reason = blame(quantization) if quantization else None
    return f"Try {steps or remedy(variant.kind)}." + (f" {f.plain(reason)}." if reason else "")


def _collapsed_on_validation(variant: Variant, by_id: Mapping[str, Variant]) -> tuple[float, Variant] | None:
    """Loss of a quantized variant on validation against its parent, where it collapsed."""
    parent = by_id.get(variant.parent or "")
    if not variant.quantization or not variant.validation or not parent or not parent.validation:
        return None
    lost = round(parent.validation.top1 - variant.validation.top1, 9)
    return (lost, parent) if lost >= COLLAPSE else None


def _slower(record: RunRecord) -> Iterator[str]:
    """Warn of quantized files that are slower than the FP32 file in the same runtime."""
    by_id = variants_by_id(record)
    for name, timed in against_float(record.variants).items():
        methods = {file.runtime: file.method for file in by_id[name].artifacts}
        for runtime in dict.fromkeys(entry.runtime for entry in timed if entry.slower):
            slow = [entry for entry in timed if entry.runtime == runtime and entry.slower]
            measured = ", ".join(
                f"{f.times(entry.ratio.ratio)}{f.interval(_ends(entry.ratio))} at batch {entry.batch}" for entry in slow
            )
            against = f"{f.plain(name)} in {f.plain(runtime)} is slower than {f.plain(slow[0].float_variant)} in FP32"
            made = f", made by {f.plain(methods[runtime])}" if methods.get(runtime) else ""
            advice = "quantize by another method, or take another runtime"
            batches = join_words([str(entry.batch) for entry in slow], "and")
            yield f"{against}: {measured}. Do not deploy that file at batch {batches}{made}: {advice}."


def _ends(ratio: Ratio) -> tuple[float, float] | None:
    return None if ratio.low is None or ratio.high is None else (ratio.low, ratio.high)


def _failure(failed: Failure) -> str:
    where = f" in {f.plain(failed.runtime)}" if failed.runtime else ""
    return f"{f.plain(failed.stage)} failed{where}: {f.plain(failed.reason)}."


def _collapsed(variant: Variant, by_id: Mapping[str, Variant]) -> tuple[float, Variant] | None:
    """Loss against the nearest ancestor that it collapsed against, where its parent had not collapsed before.

    None of a control, which is there to show that it loses; what is made from one is compared with nothing before it.
    """
    _, *ancestors = _down_from_control(ancestry(variant, by_id))
    for ancestor in ancestors:
        lost = round(ancestor.accuracy.top1 - variant.accuracy.top1, 9)
        before = round(ancestor.accuracy.top1 - ancestors[0].accuracy.top1, 9)
        if lost >= COLLAPSE:
            return (lost, ancestor) if before < COLLAPSE else None
    return None


def _down_from_control(line: Sequence[Variant]) -> Sequence[Variant]:
    """Return the part of a line of ancestors, the youngest first, that starts at its youngest control."""
    first = next((at for at, variant in enumerate(line) if variant.control), len(line))
    return line[: first + 1]


def _largest_step(variant: Variant, ancestor: Variant, by_id: Mapping[str, Variant]) -> Variant:
    """Return the variant from this one to below an ancestor that lost most to its parent."""
    line = list(ancestry(variant, by_id))
    steps = pairwise(line[: line.index(ancestor) + 1])
    return max(steps, key=lambda step: step[1].accuracy.top1 - step[0].accuracy.top1)[0]


def reservations(record: RunRecord) -> list[str]:
    """State what holds whatever the savings are."""
    lines = [*_other_references(record), *_reason(record), *shown_worse(record)]
    lines += [*_left_out(record), *_uncounted(record), *_selection(record), *_one_seed(record)]
    lines += (f"{f.plain(v.id)}: {f.plain(remark)}" for v in record.variants for remark in v.remarks or ())
    lines += map(f.plain, record.data.remarks or ())
    if record.data.name:
        lines.append(f"The results hold for {f.plain(record.data.name)}, on the machine below.")
    return lines


def _one_seed(record: RunRecord) -> Iterator[str]:
    """State of variants with a fit, their own or an ancestor's, that another seed would give other ones."""
    by_id = variants_by_id(record)
    trained = [v.id for v in record.variants if any(each.training.curve for each in ancestry(v, by_id))]
    if trained:
        were = f"{f.names(trained)} {'was' if len(trained) == 1 else 'were'}"
        yield f"{were} trained once, with one seed: the intervals cover the choice of test images, not retraining."


def _reason(record: RunRecord) -> Iterator[str]:
    """Why the variant of the headline is not granted."""
    first = record.headline
    if not first.granted and first.variant and first.reason:
        yield f"{f.plain(first.variant)}: {f.plain(first.reason)}."


def _other_references(record: RunRecord) -> Iterator[str]:
    """State the saving of the headline's variant against every other reference; without one, what else is granted."""
    first = record.headline
    for savings in record.efficiency:
        if savings.reference == first.reference:
            continue
        if first.granted:
            yield from _against(savings, first.variant)
        elif best := cheapest(savings.variants):
            reference, saved = f.plain(savings.reference), f"{f.signed(best.doublings.macs)} doublings in MACs"
            yield f"Against {reference}, which is a test of its own, {f.plain(best.id)} is granted: {saved}."


def _against(savings: Savings, id: str | None) -> Iterator[str]:
    variant = next((variant for variant in savings.variants if variant.id == id), None)
    if variant is None:
        return
    reference = f.plain(savings.reference)
    if is_saving(variant):
        yield f"Against {reference} it is granted too: {f.signed(variant.doublings.macs)} doublings in MACs."
    elif variant.granted:
        yield f"Against {reference} it is as accurate, and not cheaper."
    else:
        reason = f.plain(variant.reason)
        if not variant.tested:  # the reason of one that was states its loss
            reason = f"{f.points(variant.accuracy_difference, variant.difference_ci95)}; {reason}"
        yield f"Against {reference} nothing is granted: {reason}."


def _left_out(record: RunRecord) -> Iterator[str]:
    """Name files of the reference that are faster than the one that latency is compared with, but do not count."""
    first = record.headline
    savings = next((each for each in record.efficiency if each.reference == first.reference), None)
    reference = variants_by_id(record).get(first.reference or "")
    basis = next((v.latency_basis for v in savings.variants if v.id == first.variant), None) if savings else None
    if not savings or not reference or not basis:
        return
    refused = {name_of(file) for file in savings.reference_files if not counts_for_reference(file)}
    faster = [
        name_of(row)
        for row in reference.inference.latency
        if name_of(row) in refused and row.batch == basis.batch and row.p50_ms < basis.reference_ms
    ]
    if faster:
        yield (
            f"{f.plain(first.reference)} is faster in {f.names(faster)}, but its files there are less accurate than "
            "its network, or were not compared with it: latency is not compared with them."
        )


def _uncounted(record: RunRecord) -> Iterator[str]:
    """Name operators that are in no MACs, so that doublings of MACs leave them out."""
    for operators in dict.fromkeys(variant.inference.uncounted_operators for variant in record.variants):
        if operators:
            names = f.names(v.id for v in record.variants if v.inference.uncounted_operators == operators)
            yield f"MACs and bit operations of {names} leave out {f.names(operators)}, whose cost is not known."


def _selection(record: RunRecord) -> Iterator[str]:
    """State where accuracy on test may be too high, or where validation was no guide to it."""
    peeked = f.names(v.id for v in record.variants if v.training.selected_on == "test")
    if peeked:
        yield (
            f"The checkpoint of {peeked} was selected on the test images (`select_on: test`): the accuracy there is "
            "too high, by an unknown amount."
        )
    apart = [variant for variant in record.variants if _apart(variant)]
    if apart:
        figures = ", ".join(
            f"{f.plain(v.id)} {f.percent(v.validation.top1)} against {f.percent(v.accuracy.top1)}"
            for v in apart
            if v.validation
        )
        yield f"Accuracy on validation and on test differ by more than both intervals allow: {figures}."


def _apart(variant: Variant) -> bool:
    """Whether the 95% intervals of validation and test accuracy exclude each other."""
    if variant.validation is None:
        return False
    (low, high), (other_low, other_high) = variant.accuracy.ci95, variant.validation.ci95
    return low > other_high or high < other_low
