"""Accuracy of a variant, of one of its files, or on one class: the run's, or its change from the baseline's."""

from __future__ import annotations

from functools import lru_cache

from compress.deployment.engines import engine_version
from compress.efficiency.verdict import share
from compress.gate.rules import Rule
from compress.report.run_changes import Predicted, accuracy_change
from compress.report.sides import Absent, Measured, Side, Sides, find_file
from compress.results.per_image import class_bits, correct_bits


def of_file(side: Side, name: str) -> Predicted | Absent:
    """The predictions of a file in its own runtime."""
    artifact = find_file(side.variant, name)
    if artifact is None:
        return Absent("has no such file")
    n = side.variant.accuracy.n
    if artifact.top1 is None or not n:
        return Absent(artifact.not_run or "has not run the file")
    about = (artifact.bytes, engine_version(side.run.environment, artifact.runtime))
    return Predicted(round(artifact.top1 * n), n, artifact.right, n, file=about)


def of_class(side: Side, other: Side, name: str) -> Predicted | Absent:
    """The predictions of the network on the images of a class.

    Without labels of its own, a run on the same test images takes those of the other.
    """
    data, accuracy = side.run.data, side.variant.accuracy
    if name not in data.classes:
        return Absent("has no such class")
    labels = data.test_labels or (other.run.data.test_labels if data.same_images(other.run.data) else None)
    bits, by_class = correct_bits(accuracy.right, accuracy.n), _class_bits(labels or "", len(data.classes), accuracy.n)
    if bits is None or by_class is None:
        return Absent("does not tell which test images are of which class; run it again with this version")
    among = by_class[data.classes.index(name)]
    n = among.bit_count()
    return (
        Predicted((bits & among).bit_count(), n, accuracy.right, accuracy.n, among)
        if n
        else Absent("has no images of it")
    )


_class_bits = lru_cache(maxsize=4)(class_bits)


def accuracy_figure(rule: Rule, sides: Sides, before: Predicted | Absent, after: Predicted | Absent) -> Measured:
    """Estimate the run's accuracy, or its change, on the same images where both have predictions on them."""
    if isinstance(after, Absent):
        return Absent(f"the run {after.reason}")
    if rule.basis == "figure":
        return share(after.correct, after.n, f"{after.n:,} images")
    if isinstance(before, Absent):
        return Absent(f"the baseline {before.reason}")
    return accuracy_change(sides, before, after)
