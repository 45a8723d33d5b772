"""Accuracy by class: balanced accuracy, its paired difference, and which classes are shown to have changed.

Balanced accuracy is the mean of the recalls of the classes that have test images (Brodersen et al. 2010), whatever
their share of these. Intervals of such means are made of the intervals of their parts by the method of variance
estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008): Wilson's for recalls, Tango's for differences.
That is conservative where hardly any prediction of a class differs.

With many classes some change by chance. A class is shown to have changed where the exact McNemar test of its images
rejects at 5% after Holm's correction for all classes of the comparison (Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compress.efficiency.intervals import (
    ByClass,
    PairedDifference,
    best_upper_end,
    binomial_cdf,
    paired_difference,
    wilson,
)

LEVEL = 0.05
BALANCED_METHOD = "mean over the classes of Tango's intervals, by the method of variance estimates recovery (2008)"
MIN_CLASS_IMAGES = 10
"""With fewer images of a class, nothing is granted in balanced accuracy: the interval of a class is an approximation.

By simulation of variants that are worse by just the tolerance (1 to 50 classes of so many images beside 0 to 30 large
ones without a change, 1,000 to 6,000 draws), the largest error of granting wrongly, nominally 2.5%, is

    images of a class     2      5     10     20     50
    tolerance 2 points   7.2%   6.4%   3.9%   4.0%   3.4%
    tolerance 5 points   8.6%   7.0%   5.5%   3.8%   3.8%
    tolerance 10 points 14.0%  11.0%   7.9%   6.6%   5.2%

At 10 points the largest are of three small classes among 20 large ones, which lose all that is lost.
"""
MIN_CLASSES_FOR_TOP5 = 20
"""With fewer classes, top-5 is close to 100% whatever the network."""
TOP = 5

Ends = tuple[float, float]


@dataclass(frozen=True)
class ClassPair:
    """Predictions of a reference and a variant on the images of one class."""

    only_reference: int
    only_variant: int
    images: int
    name: str = ""


def balanced_accuracy(correct: Sequence[int], images: Sequence[int], confidence: float = 0.95) -> tuple[float, Ends]:
    """Compute the mean recall of classes with its interval, from counts by class; classes without images do not count.

    Raises:
        ValueError: No class has images.
    """
    counted = [(k, n) for k, n in zip(correct, images, strict=True) if n]
    if not counted:
        raise ValueError("balanced accuracy needs a class with images")
    recalls = [k / n for k, n in counted]
    ends = [wilson(k, n, confidence) for k, n in counted]
    return _mean(recalls, [low for low, _ in ends], [high for _, high in ends])


def balanced_difference(classes: Sequence[ClassPair], confidence: float = 0.95) -> PairedDifference:
    """Compute the loss of balanced accuracy of a variant, on the same images.

    `only_reference`, `only_variant` and `images` of the result are of all classes together.

    Raises:
        ValueError: No class has images.
    """
    counted = [each for each in classes if each.images]
    if not counted:
        raise ValueError("balanced accuracy needs a class with images")
    parts = [paired_difference(each.only_reference, each.only_variant, each.images, confidence) for each in counted]
    difference, (low, high) = _mean([p.difference for p in parts], [p.low for p in parts], [p.high for p in parts])
    b, c, n = (sum(getattr(each, name) for each in counted) for name in ("only_reference", "only_variant", "images"))
    return PairedDifference(b, c, n, difference, low, high, by_class=best_case(counted, confidence))


def best_case(classes: Sequence[ClassPair], confidence: float = 0.95) -> ByClass:
    """Return what these classes could show if every prediction were the reference's, and the smallest of them.

    Raises:
        ValueError: No class has images.
    """
    counted = [each for each in classes if each.images]
    if not counted:
        raise ValueError("balanced accuracy needs a class with images")
    smallest = min(counted, key=lambda each: each.images)
    ends = [best_upper_end(each.images, confidence) for each in counted]
    return ByClass(smallest.name, smallest.images, math.hypot(*ends) / len(ends))


def _mean(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> tuple[float, Ends]:
    """Return the mean of independent estimates, with its interval from theirs."""
    mean = math.fsum(values) / len(values)
    below = math.hypot(*(value - low for value, low in zip(values, lows, strict=True))) / len(values)
    above = math.hypot(*(high - value for value, high in zip(values, highs, strict=True))) / len(values)
    return mean, (mean - below, mean + above)


def mcnemar(b: int, c: int) -> float:
    """Compute the two-sided p-value of McNemar's exact test: b and c discordant images, each as likely.

    1 where no image is discordant.
    """
    return min(1.0, 2 * binomial_cdf(min(b, c), b + c, 0.5)) if b + c else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for being tested together: below a level, all of those are shown at that level."""
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def adjusted_by_class(classes: Sequence[ClassPair]) -> list[float]:
    """Return the p-value that each class has changed, corrected for all classes that have images."""
    places = [place for place, each in enumerate(classes) if each.images]
    found = holm([mcnemar(classes[place].only_reference, classes[place].only_variant) for place in places])
    adjusted = [1.0] * len(classes)
    for place, p_value in zip(places, found, strict=True):
        adjusted[place] = p_value
    return adjusted
