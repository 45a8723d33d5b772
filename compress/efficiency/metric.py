"""What equal accuracy means: top-1, balanced accuracy or top-5, each as a paired difference on the same test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compress.efficiency.intervals import PairedDifference, paired_difference
from compress.efficiency.per_class import TOP, ClassPair, balanced_difference
from compress.results.base import Interval
from compress.results.per_image import class_bits, paired_counts
from compress.results.quality import Quality
from compress.utils.metric_name import MetricName


@dataclass(frozen=True)
class Metric:
    """The accuracy that savings are granted by.

    Attributes:
        name: `top1`, `balanced` or `top5`.
        classes: Bits of the test images of each class, as of `class_bits`; needed for `balanced` and for its chance.
        names: Names of these classes.
    """

    name: MetricName = "top1"
    classes: tuple[int, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: MetricName, labels: str, classes: Sequence[str], images: int) -> Metric:
        """Return a metric on test images, from their encoded labels and the names of the classes."""
        found = class_bits(labels, len(classes), images)
        return cls(name, tuple(found), tuple(classes)) if found else cls(name)

    def right(self, top1: str | None, quality: Quality | None) -> str | None:
        """Return the bits of the images that count as right, of those of top-1 and the quality of predictions."""
        if self.name == "top5":
            return quality.top5_right if quality else None
        return top1

    def value(self, top1: float | None, quality: Quality | None) -> float | None:
        """Return the accuracy, of top-1 and the quality of predictions."""
        if self.name == "top1" or quality is None:
            return top1 if self.name == "top1" else None
        return quality.balanced if self.name == "balanced" else quality.top5

    def interval(self, top1: Interval, quality: Quality | None) -> Interval | None:
        """Return the 95% interval of the accuracy, of that of top-1 and the quality of predictions."""
        if self.name == "top1" or quality is None:
            return top1 if self.name == "top1" else None
        return quality.balanced_ci95 if self.name == "balanced" else quality.top5_ci95

    def difference(
        self, before: str | None, after: str | None, images: int, confidence: float = 0.95
    ) -> PairedDifference | None:
        """Return the accuracy lost, from the bits of two on the same images; None without them."""
        if (counts := paired_counts(before, after, images)) is None:
            return None
        if self.name != "balanced":
            return paired_difference(*counts, images, confidence)
        pairs = [
            ClassPair(*counts, among.bit_count(), name)
            for name, among in zip(self.names, self.classes, strict=True)
            if among and (counts := paired_counts(before, after, images, among))
        ]
        return balanced_difference(pairs, confidence) if pairs else None

    def chance(self) -> float | None:
        """Return the accuracy of naming the most frequent class, or five, for every image; None if unknown."""
        counts = sorted((among.bit_count() for among in self.classes if among), reverse=True)
        if not counts:
            return None
        if self.name == "balanced":
            return 1 / len(counts)
        return sum(counts[: TOP if self.name == "top5" else 1]) / sum(counts)


METRIC_WORDS: dict[MetricName, str] = {
    "top1": "",
    "balanced": " in balanced accuracy",
    "top5": " in top-5 accuracy",
}
"""What follows `less accurate` in a sentence."""
