"""The first sentences of a report: which variant, how much cheaper, at what accuracy, worth how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compress.report import energy
from compress.report import formats as f
from compress.report.savings import is_saving
from compress.report.tables import variants_by_id
from compress.results import RunRecord, Savings, Variant, VariantSavings


@dataclass(frozen=True)
class Headline:
    """The result in one sentence, its reservations, and the variant and reference that it is about, if any."""

    granted: bool
    sentence: str
    reservations: tuple[str, ...]
    reference: str | None
    variant: str | None = None


def headline(record: RunRecord) -> Headline:
    """State the saving against the first reference with a cheaper variant that is granted; else that none is."""
    variants, general = variants_by_id(record), _reservations(record)
    compared = [savings for savings in record.efficiency if savings.variants]
    for savings in compared:
        if best := _cheapest(savings, granted=True):
            others = [line for other in compared if other is not savings and (line := _against(other, best.id))]
            return Headline(True, _granted(savings, best, variants), (*others, *general), savings.reference, best.id)
    if not compared:
        return Headline(False, "No variants were compared: no saving is claimed.", general, None)
    first = compared[0]
    refused = _cheapest(first, granted=False)
    sentence = _refused(first, refused, variants) if refused else "No variant is cheaper than its reference."
    return Headline(False, sentence, general, first.reference, refused.id if refused else None)


def _cheapest(savings: Savings, granted: bool) -> VariantSavings | None:
    """The variant that saves the most bit operations (then MACs), among the granted or the refused ones."""
    cheaper = [v for v in savings.variants if v.granted is granted and max(_saved(v)) > 0]
    return max(cheaper, key=_saved, default=None)


def _saved(variant: VariantSavings) -> tuple[float, float]:
    return variant.doublings.bit_operations or 0.0, variant.doublings.macs or 0.0


def _cheaper(variant: VariantSavings) -> str:
    """How many times cheaper, for each cost that is known and differs."""
    saved, basis = variant.doublings, variant.latency_basis
    counted = ((saved.macs, "fewer MACs"), (saved.bit_operations, "fewer bit operations"))
    parts = [f"{f.times(2**d)} {noun}" for d, noun in counted if d and abs(d) > 0.01]
    if basis and (d := saved.latency):
        setting = f"{f.plain(basis.runtime)} at batch {basis.batch}"
        parts.append(f"{f.times(2**d)} the speed in {setting}" if d > 0 else f"{f.times(2**-d)} the time in {setting}")
    if not parts:
        return "the same cost"
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 2 else parts)


def _top1(id: str, variants: Mapping[str, Variant]) -> str:
    return f.accuracy(variants[id].accuracy.top1, variants[id].accuracy.ci95) if id in variants else f.UNKNOWN


def _granted(savings: Savings, best: VariantSavings, variants: Mapping[str, Variant]) -> str:
    d, cost, months = best.doublings.macs, "MACs", best.months_of_growth
    if d is None or abs(d) < 0.005:
        d, cost, months = best.doublings.bit_operations, "bit operations", None
    worth = f"{f.signed(d).lstrip('+')} doublings in {cost} are granted"
    if months is not None:
        worth += f", worth {f.months(months).lstrip('+')} months of growth in compute"
    return (
        f"{f.plain(best.id)} does the work of {f.plain(savings.reference)} with {_cheaper(best)}, at "
        f"{_top1(best.id, variants)} top-1 against {_top1(savings.reference, variants)}: {worth}."
    )


def _refused(savings: Savings, refused: VariantSavings, variants: Mapping[str, Variant]) -> str:
    return (
        f"No saving is granted: {f.plain(refused.id)} has {_cheaper(refused)} against {f.plain(savings.reference)}, "
        f"but at {_top1(refused.id, variants)} top-1 against {_top1(savings.reference, variants)} it is "
        f"{f.plain(refused.reason)}."
    )


def _against(savings: Savings, id: str) -> str | None:
    """State the saving of the headline's variant against another reference."""
    variant = next((variant for variant in savings.variants if variant.id == id), None)
    if variant is None:
        return None
    reference = f.plain(savings.reference)
    if is_saving(variant):
        return f"Against {reference} it is granted too: {f.signed(variant.doublings.macs)} doublings in MACs."
    return f"Against {reference} nothing is granted: {f.plain(id)} is {f.plain(variant.reason)}."


def _reservations(record: RunRecord) -> tuple[str, ...]:
    """Reservations that hold whatever the savings are."""
    lines = [
        "Every variant was trained once, with one seed: the intervals cover the choice of test images, not retraining."
    ]
    peeked = f.names(v.id for v in record.variants if v.training.selected_on == "test")
    if peeked:
        lines.append(
            f"The checkpoint of {peeked} was selected on the test images (`select_on: test`): the accuracy there is "
            "too high, by an unknown amount."
        )
    lines += map(f.plain, record.data.remarks or ())
    if record.data.name:
        lines.append(f"The results hold for {f.plain(record.data.name)}, on the machine below.")
    return tuple(lines)


_MEASURES: tuple[tuple[str, Callable[[Variant], object]], ...] = (
    ("Latency", lambda v: v.inference.latency or None),
    ("Peak memory", lambda v: v.inference.peak_memory_bytes),
    ("Energy of inference", lambda v: v.inference.energy_j.value),
    ("Energy of training", lambda v: v.training.energy_j.value),
)


def not_measured(record: RunRecord) -> list[str]:
    """List what the run does not know, in sentences: every null that could be mistaken for 0."""
    variants, lines = record.variants, []
    for name, measured in _MEASURES:
        missing = [variant.id for variant in variants if measured(variant) is None]
        if missing:
            lines.append(f"{name} of {'any variant' if len(missing) == len(variants) else f.names(missing)}.")
    if guessed := f.names(variant.id for variant in variants if energy.is_estimated(variant)):
        why = "estimated from a stated power, so its doublings are those of latency"
        lines.append(f"Energy of inference of {guessed}: {why}.")
    for variant in variants:
        for artifact in variant.artifacts:
            if artifact.top1 is None:
                why = f" ({f.plain(artifact.not_run)})" if artifact.not_run else ""
                lines.append(f"Accuracy of {f.plain(variant.id)} in {f.plain(artifact.runtime)}{why}.")
    if any(pair.with_teacher_pretraining.ratio is None for pair in record.training_efficiency):
        lines.append("Compute of the teacher's own pre-training, which training efficiency therefore leaves out.")
    lines += [
        f"{f.plain(variant.id)} against {f.plain(savings.reference)} on the same images."
        for savings in record.efficiency
        for variant in savings.variants
        if variant.accuracy_difference is None
    ]
    if variants:
        machine = " and ".join(f.plain(name) for name in (record.environment.cpu, record.environment.gpu) if name)
        lines.append(f"Any other device: time, memory and energy are those of {machine}.")
    return lines
