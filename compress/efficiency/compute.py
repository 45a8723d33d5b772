"""Training compute of a variant in full: its ledger, and what was trained before the run that it rests on."""

from __future__ import annotations

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
