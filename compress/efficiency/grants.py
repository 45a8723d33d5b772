"""Whether non-inferiority of a variant is shown, and why, in words."""

from __future__ import annotations

from compress.efficiency.intervals import MIN_IMAGES, ByClass, Grant, PairedDifference, images_to_show
from compress.efficiency.per_class import MIN_CLASS_IMAGES


def grant(difference: PairedDifference, tolerance: float) -> Grant:
    """Decide whether non-inferiority of a variant is shown.

    Granted when the upper end of the interval of the difference is at most the tolerance, on at least `MIN_IMAGES`
    images; of a mean over classes, on at least `MIN_CLASS_IMAGES` of each.

    Args:
        difference: Difference of the accuracies with its interval.
        tolerance: Loss of accuracy that counts as equal, a fraction.
    """
    loss = f"{_signed(difference.difference)} (95% interval {_interval(difference)})"
    allowed = f"the tolerance of {100 * tolerance:g} {'point' if 100 * tolerance == 1 else 'points'}"
    if difference.images < MIN_IMAGES:
        return Grant(False, f"{difference.images} test images are too few to show anything")
    if difference.by_class and difference.by_class.images < MIN_CLASS_IMAGES:
        return Grant(False, f"{_smallest(difference.by_class)}, too few to show balanced accuracy: {_least()}")
    if difference.high <= tolerance:
        return Grant(True, f"{loss}, all of it within {allowed}")
    if difference.low > tolerance:
        return Grant(False, f"{loss}, all of it beyond {allowed}")
    unclear = f"{loss}, which does not exclude a loss beyond {allowed} on {difference.images:,} images"
    if difference.by_class and difference.by_class.best_high > tolerance:
        never = f"even identical predictions could not show it; {_smallest(difference.by_class)}"
        return Grant(False, f"{unclear}; {never}")
    if difference.difference > tolerance or not tolerance or difference.by_class:
        return Grant(False, unclear)
    needed = images_to_show(difference, tolerance)
    more = f"about {needed:,} images would show that it is as accurate, if it is"
    if needed <= difference.images:  # it has had its chance
        more = f"if it were as accurate, about {needed:,} images would have shown it"
    return Grant(False, f"{unclear}; {more}")


def why_never(by_class: ByClass, tolerance: float) -> str | None:
    """State why not even identical predictions could be granted in balanced accuracy; None where they would be."""
    if by_class.images < MIN_CLASS_IMAGES:
        return f"{_smallest(by_class)}: {_least()}"
    if by_class.best_high > tolerance:
        return f"even identical predictions could not show it; {_smallest(by_class)}"
    return None


def _smallest(by_class: ByClass) -> str:
    name = by_class.smallest or "the smallest class"
    return f"{name} has {by_class.images} test {'image' if by_class.images == 1 else 'images'}"


def _least() -> str:
    return f"every class needs at least {MIN_CLASS_IMAGES}"


def _signed(difference: float) -> str:
    if round(1000 * difference) == 0:
        return "as accurate to 0.1 points"
    return f"{abs(100 * difference):.1f} points {'less' if difference > 0 else 'more'} accurate"


def _interval(difference: PairedDifference) -> str:
    """The interval in the direction of `_signed`: of the loss, or of the gain where there is one."""
    low, high = 100 * difference.low, 100 * difference.high
    if difference.difference < 0 and round(1000 * difference.difference) != 0:
        low, high = -high, -low
    return f"{low:.1f} to {high:.1f}".replace("-", "−")
