"""Training compute of a variant in full: its ledger, and the earlier training that it rests on.

Earlier training is that of its teacher, before the run or by a stage of it, and of the weights that it starts from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from compress.results.variant import Variant

BASELINE, LEARNER = "train", "distill"  # kinds of stage: trained on labels, and by a teacher


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


def earlier_macs(variant: Variant) -> float | None:
    """Return the MACs of earlier training; None where a part is unknown."""
    teacher, start = teacher_macs(variant), start_macs(variant)
    return None if teacher is None or start is None else teacher + start


def compute_in_full(variant: Variant) -> float | None:
    """Return the training MACs of a variant with those of earlier training; None where a part is unknown."""
    before = earlier_macs(variant)
    return None if before is None else variant.training.macs + before


def extra_compute(variant: Variant, reference: Variant, by_id: Mapping[str, Variant]) -> float | None:
    """Return the training MACs that a variant took more than a reference, with those of earlier training.

    A part that is not stated cancels where it is the same training for both: of the teacher or network that both
    descend from, of a teacher that is the reference itself, and of the first weights of a variant that both are made of
    or repeat. None where one does not cancel.

    Args:
        variant: A variant.
        reference: What it is compared with.
        by_id: All variants by id, in which ancestors are found.
    """
    for learner, teacher, sign in ((variant, reference, 1), (reference, variant, -1)):
        if trained_teacher(learner, by_id) is teacher:
            start = start_macs(learner)
            return None if start is None else sign * (learner.training.macs + start)
    first, other = (_first(each, lambda made: by_id.get(made.parent or "")) for each in (variant, reference))
    teachers = _extra(teacher_macs(variant), teacher_macs(reference), same=first == other)
    first, other = (_first(each, lambda made: _weights_from(made, by_id)) for each in (variant, reference))
    starts = _extra(start_macs(variant), start_macs(reference), same=first == other)
    if teachers is None or starts is None:
        return None
    return variant.training.macs - reference.training.macs + teachers + starts


def trained_teacher(variant: Variant, by_id: Mapping[str, Variant]) -> Variant | None:
    """Return the variant that a `train` stage of the same recipe made, and that a variant was distilled from."""
    steps = pairwise(_chain(variant, lambda made: by_id.get(made.parent or "")))
    return next((start for made, start in steps if (made.kind, start.kind) == (LEARNER, BASELINE)), None)


def _extra(own: float | None, other: float | None, *, same: bool) -> float | None:
    """Return the difference of two parts; 0 of two unknown ones that are the `same`."""
    if own is None and other is None and same:
        return 0.0
    return None if own is None or other is None else own - other


def _first(variant: Variant, before: Callable[[Variant], Variant | None]) -> str:
    """Return the id of the first of the variants that lead to one, by what comes before each."""
    *_, first = _chain(variant, before)
    return first.id


def _chain(variant: Variant, before: Callable[[Variant], Variant | None]) -> Iterator[Variant]:
    """Yield a variant and those that lead to it, the last of them first."""
    yield variant
    seen = {variant.id}
    while (origin := before(variant)) and origin.id not in seen:  # a damaged record may have a circle
        yield origin
        seen.add(origin.id)
        variant = origin


def _weights_from(variant: Variant, by_id: Mapping[str, Variant]) -> Variant | None:
    """Return the variant that has the same first weights: what one is made of, or the training that a control repeats.

    None for others: the parent of a distillation is its teacher.
    """
    if variant.control and variant.control.repeats:
        return by_id.get(variant.control.repeats)
    return continued(variant, by_id)


def continued(variant: Variant, by_id: Mapping[str, Variant]) -> Variant | None:
    """Return the parent if the variant's training compute includes the parent's."""
    parent = by_id.get(variant.parent or "")
    parts: Sequence[object] = parent.training.parts if parent else ()
    return parent if parts and variant.training.parts[: len(parts)] == parts else None
