"""Dominance among trials: ranks by figures, and whether it is shown on the validation images or only apparent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.efficiency.intervals import MIN_IMAGES, paired_difference
from compress.efficiency.verdict import Estimate, decide
from compress.gate.rules import parse_metric
from compress.report.sides import Side
from compress.results.per_image import paired_counts
from compress.sweep.objectives import VALIDATION, cost_ratio
from compress.sweep.records import Dominance, Figures


@dataclass(frozen=True)
class Dominated:
    """How a trial stands: on the front, or dominated by a trial of it, `by` its number."""

    dominance: Dominance
    by: int | None = None


def dominates(first: Figures, second: Figures, objectives: Sequence[str]) -> bool:
    """Return whether a trial is no worse than another in any objective, and better in one."""
    signs = [(1 if name == VALIDATION else -1) for name in objectives]
    gains = [sign * (first[name] - second[name]) for name, sign in zip(objectives, signs, strict=True)]
    return min(gains) >= 0 and max(gains) > 0


def ranks(figures: Mapping[int, Figures], objectives: Sequence[str]) -> dict[int, int]:
    """Return the front of each trial: 0 is not dominated, 1 is not dominated without those of 0, and so on.

    Non-dominated sorting (Srinivas and Deb, Evolutionary Computation 2, 1994).
    """
    left, found, rank = dict(figures), {}, 0
    while left:
        front = [
            number
            for number, own in left.items()
            if not any(dominates(other, own, objectives) for other in left.values())
        ]
        for number in front:
            found[number] = rank
            del left[number]
        rank += 1
    return found


def is_hopeless(number: int, figures: Mapping[int, Figures], objectives: Sequence[str], keep: float) -> bool:
    """Decide at a rung whether a trial is stopped: as many trials as go on are on better fronts.

    Asynchronous successive halving (Li et al., arXiv 1810.05934), by fronts where there are several objectives
    (Schmucker et al., arXiv 2106.12639). Optuna's pruners take a single objective only.

    Args:
        number: The trial.
        figures: Figures at this rung of all trials that have reached it.
        objectives: Their names.
        keep: Share of the trials that go on.
    """
    fronts = ranks(figures, objectives)
    better = sum(front < fronts[number] for front in fronts.values())
    return better >= max(1, int(keep * len(figures)))


def dominance(
    sides: Mapping[int, Side], figures: Mapping[int, Figures], objectives: Sequence[str]
) -> dict[int, Dominated]:
    """Tell which trials are on the front, and of the others which are shown to be dominated.

    Each dominated trial is compared with the trial of the front that dominates it and is the most accurate on
    validation. Shown: that one is more accurate, by Tango's interval of the paired difference on the validation images,
    and costs no more. Of all trials together at 95% (Bonferroni). Accuracy on validation also selected the front and
    the epochs, so that an advantage is on average smaller on new images.

    Args:
        sides: Variant and run of each trial.
        figures: Their figures.
        objectives: Names of the figures.
    """
    fronts = ranks(figures, objectives)
    rivals = {number: _rival(number, fronts, figures, objectives) for number, front in fronts.items() if front}
    confidence = 1 - 0.05 / max(1, len(rivals))
    found = {number: Dominated("front") for number, front in fronts.items() if not front}
    for number, rival in rivals.items():
        shown = _is_more_accurate(sides[rival], sides[number], confidence) and all(
            _costs_no_more(name, sides[rival], sides[number]) for name in objectives if name != VALIDATION
        )
        found[number] = Dominated("shown" if shown else "apparent", rival)
    return found


def _rival(number: int, fronts: Mapping[int, int], figures: Mapping[int, Figures], objectives: Sequence[str]) -> int:
    """Return the most accurate trial of the front that dominates another."""
    own = figures[number]
    front = [each for each, rank in fronts.items() if not rank and dominates(figures[each], own, objectives)]
    return max(front, key=lambda each: (figures[each][VALIDATION], -each))


def _is_more_accurate(first: Side, second: Side, confidence: float) -> bool:
    """Return whether one variant is shown to be more accurate than another on the same validation images."""
    own, other = first.variant.validation, second.variant.validation
    if not own or not other or own.n != other.n or own.n < MIN_IMAGES or not same_validation(first, second):
        return False
    counts = paired_counts(other.right, own.right, own.n)
    return counts is not None and paired_difference(*counts, own.n, confidence).high < 0


def same_test(first: Side, second: Side) -> bool:
    """Return whether two runs have the same test images: by digest, or by source and labels.

    Their resolution may differ, and the digest with it.
    """
    old, new = first.run.data, second.run.data
    same_labels = old.test_labels is not None and old.test_labels == new.test_labels
    return old.same_images(new) or (same_labels and _source(first) == _source(second))


def same_validation(first: Side, second: Side) -> bool:
    """Return whether two runs have the same validation images: the same source, split by the same seed."""
    seeds = [side.run.recipe.resolved.get("seed") for side in (first, second)]
    return same_test(first, second) and _source(first) == _source(second) and seeds[0] == seeds[1]


def _source(side: Side) -> dict[str, Any]:
    return {**side.run.recipe.resolved.get("data", {}), "resolution": None, "views": None}


def _costs_no_more(name: str, first: Side, second: Side) -> bool:
    """Return whether a cost of one variant is shown to be no higher than that of another."""
    measured = cost_ratio(parse_metric(name), second, first)
    return isinstance(measured, Estimate) and decide(measured, "<=", 0.0).verdict == "pass"
