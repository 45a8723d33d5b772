"""Accuracy of a variant, of one of its files, or on one class: the run's, or its change from the baseline's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from compress.deployment.engines import engine_version
from compress.efficiency.intervals import discordant_share, independent_difference, paired_difference, wilson
from compress.efficiency.verdict import Ends, Estimate, share
from compress.gate.rules import Rule
from compress.gate.sides import Absent, Measured, Side, Sides, find_file
from compress.results import DataSummary, Variant
from compress.results.per_image import class_bits, correct_bits, paired_counts

ALL = -1  # every bit


@dataclass(frozen=True)
class Predicted:
    """Correct predictions on test images.

    Attributes:
        correct: Images with the right prediction.
        n: Images that count.
        right: `right` of the accuracy, of all images of the split; None where it was not stored.
        split: Images of the split.
        among: Bits of the images that count.
        file: What distinguishes the file from others of the same variant: size and version of its runtime.
    """

    correct: int
    n: int
    right: str | None
    split: int
    among: int = ALL
    file: tuple[object, ...] = ()

    @property
    def top1(self) -> float:
        """Share of correct predictions."""
        return self.correct / self.n


def of_network(variant: Variant) -> Predicted | Absent:
    """The predictions of the network in PyTorch."""
    correct, n = variant.accuracy.correct, variant.accuracy.n
    return Predicted(correct, n, variant.accuracy.right, n) if 0 < n >= correct else Absent("has no test images")


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
    return _change(sides, before, after)


def _change(sides: Sides, before: Predicted, after: Predicted) -> Measured:
    old, new = (side.run.data for side in sides)
    same_images = old.same_images(new) and before.split == after.split
    if same_images and (counts := paired_counts(before.right, after.right, after.split, after.among)):
        if counts == (0, 0) and sides.same_key and before.file == after.file:
            return Estimate(0.0, "the same model")
        return _paired(counts, after.n)
    if not old.same_data(new):
        return Absent(f"other test data: {_about(new)}, {_about(old)} in the baseline")
    why = "no predictions stored" if same_images else "other test images"
    return _unpaired(before, after, why)


def _about(data: DataSummary) -> str:
    return f"{data.name} with {len(data.classes)} classes"


def _paired(counts: tuple[int, int], n: int) -> Estimate:
    """Estimate the gain: minus the loss, whose interval is Tango's."""
    lost = paired_difference(*counts, n)

    def interval(confidence: float) -> Ends:
        found = paired_difference(*counts, n, confidence)
        return -found.high, -found.low

    return Estimate(
        -lost.difference,
        f"paired, {n:,} images",
        interval,
        n,
        max(0.0, discordant_share(lost) - lost.difference**2),
    )


def _unpaired(before: Predicted, after: Predicted, why: str) -> Estimate:
    """Estimate the gain of two independent shares, with Newcombe's interval; conservative on the same images."""

    def interval(confidence: float) -> Ends:
        ends = [wilson(each.correct, each.n, confidence) for each in (after, before)]
        return independent_difference(after.top1, ends[0], before.top1, ends[1])

    return Estimate(
        after.top1 - before.top1,
        f"unpaired, {after.n:,} and {before.n:,} images: {why}",
        interval,
        min(after.n, before.n),
        sum(each.top1 * (1 - each.top1) for each in (after, before)),
    )
