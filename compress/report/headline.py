"""The first sentences of the report: which variant, how much cheaper, at what accuracy, worth what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from compress.report import energy
from compress.report import formats as f
from compress.report.formats import field
from compress.report.tables import is_saving

Record = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """The answer in one sentence, what must be said beside it, and the variant and reference it is about, if any."""

    granted: bool
    sentence: str
    reservations: tuple[str, ...]
    reference: str | None
    variant: str | None = None


def answer(results: Mapping[str, Any]) -> Answer:
    """Answer from the first reference against which a cheaper variant is granted; else say that none is.

    Args:
        results: A `results.json`.
    """
    variants = {variant.get("id"): variant for variant in results.get("variants") or []}
    entries = [entry for entry in results.get("efficiency") or [] if entry.get("variants")]
    if not entries:
        return Answer(False, "Nothing was compared: no saving is claimed.", _general(results), None)
    chosen = next(((entry, best) for entry in entries if (best := _best(entry, True))), None)
    others = [entry for entry in entries if chosen is None or entry is not chosen[0]]
    if chosen is None:
        entry = entries[0]
        worst = _best(entry, False)
        sentence = _refused(entry, worst, variants) if worst else "No variant is cheaper than its reference."
        return Answer(False, sentence, _general(results), entry["reference"], worst["id"] if worst else None)
    entry, record = chosen
    against = tuple(line for other in others if (line := _against(other, record["id"])))
    return Answer(
        True, _granted(entry, record, variants), against + _general(results), entry["reference"], record["id"]
    )


def _best(entry: Mapping[str, Any], granted: bool) -> Record | None:
    """The variant that saves the most bit operations (then MACs), among the granted or the refused ones."""
    found = [r for r in entry["variants"] if bool(r.get("granted")) is granted and max(_saved(r)) > 0]
    return max(found, key=_saved, default=None)


def _saved(record: Record) -> tuple[float, float]:
    return field(record, "doublings", "bit_operations") or 0.0, field(record, "doublings", "macs") or 0.0


def _cheaper(record: Record) -> str:
    """How many times cheaper, per cost that is known and not equal."""
    nouns = (("macs", "fewer MACs"), ("bit_operations", "fewer bit operations"))
    parts = [
        f"{f.times(2**d)} {noun}" for cost, noun in nouns if (d := field(record, "doublings", cost)) and abs(d) > 0.01
    ]
    basis, d = record.get("latency_basis"), field(record, "doublings", "latency")
    if basis and d:
        where = f"{f.text(basis.get('runtime'))} at batch {f.text(basis.get('batch'))}"
        parts.append(f"{f.times(2**d)} the speed in {where}" if d > 0 else f"{f.times(2**-d)} the time in {where}")
    return _listed(parts) or "the same cost"


def _listed(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 2 else parts)


def _top1(id: Any, variants: Mapping[Any, Record]) -> str:
    return f.accuracy(field(variants.get(id), "accuracy"))


def _granted(entry: Mapping[str, Any], record: Record, variants: Mapping[Any, Record]) -> str:
    reference, d = f.plain(entry["reference"]), field(record, "doublings", "macs")
    if d is None or abs(d) < 0.005:
        d, cost, months = field(record, "doublings", "bit_operations"), "bit operations", None
    else:
        cost, months = "MACs", record.get("months_of_growth")
    worth = f"{f.signed(d).lstrip('+')} doublings in {cost} are granted"
    if months is not None:
        worth += f", worth {f.months(months).lstrip('+')} months of growth in compute"
    return (
        f"{f.plain(record['id'])} does the work of {reference} with {_cheaper(record)}, at "
        f"{_top1(record['id'], variants)} top-1 against {_top1(entry['reference'], variants)}: {worth}."
    )


def _refused(entry: Mapping[str, Any], record: Record, variants: Mapping[Any, Record]) -> str:
    return (
        f"No saving is granted: {f.plain(record['id'])} has {_cheaper(record)} against "
        f"{f.plain(entry['reference'])}, but at {_top1(record['id'], variants)} top-1 against "
        f"{_top1(entry['reference'], variants)} it is "
        f"{f.plain(record.get('reason') or 'not shown to be as accurate')}."
    )


def _against(entry: Mapping[str, Any], id: Any) -> str | None:
    """What holds for the answer's variant against another reference."""
    record = next((r for r in entry["variants"] if r.get("id") == id), None)
    if record is None:
        return None
    reference = f.plain(entry["reference"])
    if is_saving(record):
        return (
            f"Against {reference} it is granted too: {f.signed(field(record, 'doublings', 'macs'))} doublings in MACs."
        )
    reason = f.plain(record.get("reason") or "not shown to be as accurate")
    return f"Against {reference} nothing is granted: {f.plain(id)} is {reason}."


def _general(results: Mapping[str, Any]) -> tuple[str, ...]:
    lines = [
        "Every variant was trained once, with one seed: the intervals hold for the test images, not for training again."
    ]
    peeked = [f.plain(v.get("id")) for v in results.get("variants") or [] if _peeked(v)]
    if peeked:
        lines.append(
            f"The epoch of {', '.join(peeked)} was chosen on the test images (`select_on: test`): the accuracy there "
            "is too high, by how much is not known."
        )
    lines += [f.plain(remark) for remark in field(results, "data", "remarks") or []]
    if field(results, "data", "name"):
        lines.append(f"It holds for {f.plain(field(results, 'data', 'name'))}, on the machine below.")
    return tuple(lines)


def _peeked(variant: Mapping[str, Any]) -> bool:
    return bool(field(variant, "training", "selected_on") == "test")


def not_measured(results: Mapping[str, Any]) -> list[str]:
    """What the run does not know, one sentence each: every null that a reader could take for a 0."""
    variants = results.get("variants") or []
    lines = []
    for what, path in _MEASURES:
        missing = [f.plain(v.get("id")) for v in variants if field(v, *path) in (None, [])]
        if missing:
            whose = "any variant" if len(missing) == len(variants) else ", ".join(missing)
            lines.append(f"{what} of {whose}.")
    guessed = [f.plain(variant.get("id")) for variant in variants if energy.is_estimated(variant)]
    if guessed:
        why = "it is estimated from a stated power, so its doublings are those of latency"
        lines.append(f"Energy of inference of {', '.join(guessed)}: {why}.")
    for variant in variants:
        for artifact in variant.get("artifacts") or []:
            if artifact.get("top1") is None:
                why = f" ({f.plain(artifact['not_run'])})" if artifact.get("not_run") else ""
                lines.append(f"Accuracy of {f.plain(variant.get('id'))} in {f.text(artifact.get('runtime'))}{why}.")
    pairs = results.get("training_efficiency") or []
    if any(field(pair, "with_teacher_pretraining", "ratio") is None for pair in pairs):
        lines.append("Compute of the teacher's own pre-training, so the training efficiency is without it.")
    lines.extend(f"{f.plain(v)} against {f.plain(r)} on the same images." for r, v in _not_paired(results))
    if variants:
        lines.append(f"Any other device: time, memory and energy are those of {_machine(results)}.")
    return lines


def _machine(results: Mapping[str, Any]) -> str:
    environment = results.get("environment") or {}
    names = [f.plain(environment[name]) for name in ("cpu", "gpu") if environment.get(name)]
    return " and ".join(names) or "a machine that was not recorded"


def _not_paired(results: Mapping[str, Any]) -> list[tuple[Any, Any]]:
    return [
        (entry.get("reference"), record.get("id"))
        for entry in results.get("efficiency") or []
        for record in entry.get("variants") or []
        if record.get("accuracy_difference") is None
    ]


_MEASURES = (
    ("Top-1 accuracy", ("accuracy", "top1")),
    ("MACs", ("inference", "macs")),
    ("Bit operations", ("inference", "bit_operations")),
    ("Size", ("inference", "bytes")),
    ("Latency", ("inference", "latency")),
    ("Peak memory", ("inference", "peak_memory_bytes")),
    ("Energy of inference", ("inference", "energy_j", "value")),
    ("Compute of training", ("training", "macs")),
    ("Energy of training", ("training", "energy_j", "value")),
)
