"""Confidence intervals of an accuracy, and of the difference of two accuracies on the same images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

PAIRED_METHOD = "Tango score interval for paired proportions (Statistics in Medicine 17, 1998)"
EXACT_METHOD = "Clopper-Pearson bounds of both discordant shares, Bonferroni: exact, and wider"
MIN_IMAGES = 30
"""Below this many images nothing is granted: the score interval is an approximation, whose error of granting wrongly
is up to 5.2% with 4 images instead of the nominal 2.5%, and 2.5 to 3.0% from 30 images on (by enumeration)."""

POWER = 0.8
"""Probability with which as many images as are asked for show what is true."""

_BISECTIONS = 60


@dataclass(frozen=True)
class ByClass:
    """What a difference that is the mean over classes can show at best.

    Attributes:
        smallest: Name of the class with the fewest images, of those that have any.
        images: Its images.
        best_high: Upper end of the interval if every prediction were the same.
    """

    smallest: str
    images: int
    best_high: float


@dataclass(frozen=True)
class PairedDifference:
    """Loss of accuracy of a variant against its reference, on the same images.

    Attributes:
        only_reference: Images (b) that only the reference gets right.
        only_variant: Images (c) that only the variant gets right.
        images: Images (n) that both were evaluated on.
        difference: (b - c) / n as a fraction; positive means that the variant is *less* accurate.
        low: Lower end of the interval of the difference.
        high: Upper end of the interval of the difference.
        by_class: Set where the difference is the mean of those of the classes, whatever their numbers of images.
    """

    only_reference: int
    only_variant: int
    images: int
    difference: float
    low: float
    high: float
    by_class: ByClass | None = None

    @property
    def gain(self) -> float:
        """Accuracy that the variant gains: minus the difference, and not -0.0 where there is none."""
        return 0.0 - self.difference

    @property
    def gain_ends(self) -> tuple[float, float]:
        """Lower and upper end of the interval of the gain."""
        return 0.0 - self.high, 0.0 - self.low


@dataclass(frozen=True)
class Grant:
    """Whether a saving counts as one at equal accuracy, and why, in one sentence; and whether a test decided that."""

    granted: bool
    reason: str
    tested: bool = True


def wilson(correct: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion (Journal of the American Statistical Association 22, 1927).

    Args:
        correct: Correctly classified images.
        n: Images.
        confidence: Two-sided confidence level, a fraction.

    Returns:
        Lower and upper end, fractions in [0, 1].

    Raises:
        ValueError: Without images, with a count outside [0, n], or a confidence outside (0, 1).
    """
    if n <= 0 or not 0 <= correct <= n:
        raise ValueError(f"not a proportion: {correct} correct of {n} images")
    z = _z(confidence)
    share, spread = correct / n, z * z / n
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    low = 0.0 if correct == 0 else max(0.0, center - half)
    high = 1.0 if correct == n else min(1.0, center + half)
    return low, high


def paired_difference(b: int, c: int, n: int, confidence: float = 0.95) -> PairedDifference:
    """Compute the difference of two accuracies on the same images, with Tango's score interval.

    The difference d = (b - c) / n has the interval of all d with |b - c - n d| <= z sqrt(n (2 q + d (1 - d))), where q
    is the most likely share of images that only the variant gets right, given d (Tango 1998). Unlike Wald's interval
    it has a width where no image is discordant: with b = c = 0 its upper end is z^2 / (n + z^2).

    Args:
        b: Images that only the reference gets right.
        c: Images that only the variant gets right.
        n: Images that both were evaluated on.
        confidence: Two-sided confidence level, a fraction.

    Raises:
        ValueError: Without images, with negative counts or more discordant images than images.
    """
    if n <= 0 or b < 0 or c < 0 or b + c > n:
        raise ValueError(f"not paired counts: {b} and {c} discordant of {n} images")
    z, difference = _z(confidence), (b - c) / n
    high = _upper_end(b, c, n, z)
    low = -_upper_end(c, b, n, z)
    return PairedDifference(b, c, n, difference, low, high)


def best_upper_end(n: int, confidence: float = 0.95) -> float:
    """Return the upper end of Tango's interval where no image is discordant, z^2 / (n + z^2)."""
    z = _z(confidence)
    return z * z / (n + z * z)


@cache
def exact_upper_bound(b: int, c: int, n: int, confidence: float = 0.95) -> float:
    """Compute an exact upper bound of the difference of two accuracies, without an approximation.

    The difference is the share p_b that only the reference gets right, less the share p_c that only the variant does.
    Clopper and Pearson's upper bound of p_b less their lower bound of p_c (Biometrika 26, 1934), each missed with half
    of the probability that is left, is missed with no more than all of it (Bonferroni). It is wider than Tango's.

    Args:
        b: Images that only the reference gets right.
        c: Images that only the variant gets right.
        n: Images that both were evaluated on.
        confidence: Two-sided confidence level, a fraction: the bound is missed with at most (1 - confidence) / 2.

    Raises:
        ValueError: As for `paired_difference`.
    """
    if n <= 0 or b < 0 or c < 0 or b + c > n:
        raise ValueError(f"not paired counts: {b} and {c} discordant of {n} images")
    missed = (1 - confidence) / 4
    upper = 1.0 if b == n else _bisect(lambda p: binomial_cdf(b, n, p) > missed)
    lower = 0.0 if c == 0 else _bisect(lambda p: 1 - binomial_cdf(c - 1, n, p) < missed)
    return upper - lower


def _bisect(holds: Callable[[float], bool]) -> float:
    """Find the share up to which a condition holds, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return high


def binomial_cdf(k: int, n: int, p: float) -> float:
    """Probability of at most k successes of n, each with probability p in (0, 1)."""
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p)
        for i in range(k + 1)
    ]
    return min(1.0, math.fsum(map(math.exp, logs)))


def images_needed(tolerance: float, confidence: float = 0.95) -> int:
    """Compute the fewest images with which a variant that predicts every image like the reference can be granted.

    From the upper end of the interval without discordant images: n >= z^2 (1 - tolerance) / tolerance, 381 images for
    a tolerance of 1 point. A variant that is no better than its reference is never granted with fewer.

    Raises:
        ValueError: When the tolerance is not in (0, 1).
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance must be between 0 and 1, not {tolerance}")
    return max(MIN_IMAGES, math.ceil(_z(confidence) ** 2 * (1 - tolerance) / tolerance - 1e-9))


def images_to_show(difference: PairedDifference, tolerance: float) -> int:
    """Estimate the images that would show a variant to be as accurate, at the observed share D of discordant images.

    n = (1.96 + 0.84)^2 D / tolerance^2 shows it with a probability of 80% if it really is as accurate (Connor,
    Biometrics 43, 1987, for paired proportions), and never fewer than `images_needed`.

    Args:
        difference: Difference of the accuracies.
        tolerance: Loss of accuracy that counts as equal, a fraction.
    """
    return images_to_tell(discordant_share(difference), tolerance)


def images_to_tell(variance: float, margin: float, confidence: float = 0.95) -> int:
    """Estimate the images that tell a figure from a bound with a probability of 80%.

    n = (1.96 + 0.84)^2 variance / margin^2 at 95% confidence, and never fewer than `images_needed`.

    Args:
        variance: Variance of the figure on one image: p (1 - p) of a share, the share of discordant images of a paired
            difference of 0.
        margin: Distance of the figure from the bound, a fraction in (0, 1).
        confidence: Two-sided confidence level of the interval, a fraction.

    Raises:
        ValueError: When the margin is not in (0, 1).
    """
    z = _z(confidence) + NormalDist().inv_cdf(POWER)
    return max(images_needed(margin, confidence), math.ceil(z * z * variance / margin**2))


def discordant_share(difference: PairedDifference) -> float:
    """Return the share of images that only one of the two classifies correctly."""
    return (difference.only_reference + difference.only_variant) / difference.images


def independent_difference(
    first: float, first_ends: tuple[float, float], second: float, second_ends: tuple[float, float]
) -> tuple[float, float]:
    """Compute the interval of the difference of two independent figures from the interval of each.

    Of two accuracies with Wilson's intervals this is Newcombe's method 10 (Statistics in Medicine 17, 1998); in
    general, the method of variance estimates recovery (Zou and Donner, Statistics in Medicine 27, 2008).

    Args:
        first: First figure.
        first_ends: Its interval.
        second: Second figure.
        second_ends: Its interval, at the same confidence.

    Returns:
        Lower and upper end of the interval of `first - second`.
    """
    difference = first - second
    low = difference - math.hypot(first - first_ends[0], second_ends[1] - second)
    high = difference + math.hypot(first_ends[1] - first, second - second_ends[0])
    return low, high


def relative_error_increase(difference: PairedDifference, top1: float) -> float | None:
    """Compute the increase of the error rate: (error of the variant - error of the reference) / error of the reference.

    One point is +3% at a top-1 of 67% and +100% at 99%.

    Args:
        difference: Difference of the accuracies.
        top1: Accuracy of the reference, a fraction.

    Returns:
        The increase as a fraction, negative where the variant errs less; None where the reference makes no error.
    """
    return difference.difference / (1 - top1) if top1 < 1 else None


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be a fraction between 0 and 1, not {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _upper_end(b: int, c: int, n: int, z: float) -> float:
    """Upper end of Tango's interval, by bisection: the statistic falls as the difference grows."""
    low, high = (b - c) / n, 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if _statistic(b, c, n, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _statistic(b: int, c: int, n: int, difference: float) -> float:
    """Tango's score statistic of a difference that is at least the observed one."""
    linear = -b - c + (2 * n - b + c) * difference
    constant = -c * difference * (1 - difference)
    root = math.sqrt(max(0.0, linear * linear - 8 * n * constant))
    # The stable form of (root - linear) / 4n: without it a small c is lost in the subtraction.
    only_variant = (root - linear) / (4 * n) if linear <= 0 else -2 * constant / (linear + root)
    variance = n * (2 * only_variant + difference * (1 - difference))
    distance = b - c - n * difference
    if variance <= 0:
        return 0.0 if distance == 0 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)
