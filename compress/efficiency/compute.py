"""Training compute of a variant in full: its ledger, and what was trained before the run that it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compress.results.variant import Variant


def teacher_macs(variant: Variant) -> float | None:
    """Return the MACs of the own training of a variant's teacher, or of the existing network that it is or is made of.

    0 without a teacher, None if unknown.
    """
    teacher = variant.training.teacher_pretraining
    return teacher.macs if teacher else None


def start_macs(variant: Variant) -> float | None:
    """Return the MACs that the weights took which a variant starts from; 0 for random ones, None if unknown."""
    start = variant.training.start_pretraining
    return start.macs if start else 0.0


def macs_before_run(variant: Variant) -> float | None:
    """Return the MACs of everything that was trained before the run; None where a part is unknown."""
    teacher, start = teacher_macs(variant), start_macs(variant)
    return None if teacher is None or start is None else teacher + start


def compute_in_full(variant: Variant) -> float | None:
    """Return the training MACs of a variant with those before the run; None where a part is unknown."""
    before = macs_before_run(variant)
    return None if before is None else variant.training.macs + before


def extra_compute(variant: Variant, reference: Variant, by_id: Mapping[str, Variant]) -> float | None:
    """Return the training MACs that a variant took more than a reference, with those before the run.

    A part that is not stated cancels where it is the same training for both: of the teacher or network that both
    descend from, and of the first weights of a variant that both descend from. None where one does not cancel.

    Args:
        variant: A variant.
        reference: What it is compared with.
        by_id: All variants by id, in which ancestors are found.
    """
    ours, theirs = (list(_ancestry(each, by_id)) for each in (variant, reference))
    known = {each.id for each in theirs}
    shared = next((each for each in ours if each.id in known), None)  # the nearest that both descend from
    teachers = _extra(teacher_macs(variant), teacher_macs(reference), same=ours[-1].id == theirs[-1].id)
    started = shared is not None and start_macs(shared) is None
    starts = _extra(start_macs(variant), start_macs(reference), same=started)
    if teachers is None or starts is None:
        return None
    return variant.training.macs - reference.training.macs + teachers + starts


def _extra(own: float | None, other: float | None, *, same: bool) -> float | None:
    """Return the difference of two parts; 0 of two unknown ones that are the `same`."""
    if own is None and other is None and same:
        return 0.0
    return None if own is None or other is None else own - other


def _ancestry(variant: Variant, by_id: Mapping[str, Variant]) -> Iterator[Variant]:
    """Yield a variant and what it descends from, its teacher or the existing network last."""
    rest = dict(by_id)
    found: Variant | None = variant
    while found:
        yield found
        rest.pop(found.id, None)  # a damaged record may have a circle
        found = rest.get(found.parent or "")
