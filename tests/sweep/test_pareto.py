"""Fronts against their definition, and dominance that is shown or only apparent."""

from __future__ import annotations

import numpy as np
import pytest
from recompute import tango_upper
from results_factory import VALIDATION, accuracy, derive, example, inference, latency_row, variant

from compress.efficiency.intervals import paired_difference
from compress.measurement.accuracy import bits
from compress.report.sides import Side
from compress.sweep.pareto import dominance, dominates, is_hopeless, ranks

BOTH = ("validation", "macs")


def figures(rng: np.random.Generator, count: int) -> dict[int, dict[str, float]]:
    """Random figures with ties."""
    return {n: {"validation": float(rng.integers(8)), "macs": float(rng.integers(8))} for n in range(count)}


@pytest.mark.parametrize("seed", range(20))
def test_fronts_are_those_of_the_definition(seed: int) -> None:
    """The front of a trial is the length of the longest chain of trials that dominate one another above it."""
    found = figures(np.random.default_rng(seed), 25)

    def depth(number: int) -> int:
        own = found[number]
        above = [
            other
            for other, its in found.items()
            if its["validation"] >= own["validation"] and its["macs"] <= own["macs"] and its != own
        ]
        return max((1 + depth(other) for other in above), default=0)

    assert ranks(found, BOTH) == {number: depth(number) for number in found}


def test_a_trial_does_not_dominate_its_equal() -> None:
    one = {"validation": 0.5, "macs": 3.0}
    assert not dominates(one, dict(one), BOTH) and dominates({**one, "macs": 2.0}, one, BOTH)


def test_hopeless_is_who_is_not_among_the_best_share() -> None:
    reached = {number: {"validation": number / 10} for number in range(9)}
    stopped = [number for number in reached if is_hopeless(number, reached, ("validation",), 1 / 3)]
    assert stopped == [0, 1, 2, 3, 4, 5]
    assert not is_hopeless(0, {0: reached[0]}, ("validation",), 0.1), "the first to reach a rung goes on"
    assert is_hopeless(0, {0: reached[0], 1: reached[1]}, ("validation",), 0.1)


def test_nothing_on_the_front_is_hopeless() -> None:
    reached = {n: {"validation": n / 10, "macs": float(n)} for n in range(9)}
    assert not any(is_hopeless(number, reached, BOTH, 0.1) for number in reached)


def side(lost: int, gained: int = 0, macs: int = 1000, ms: float = 1.0, *, known: bool = True) -> Side:
    """A variant that gets the first 400 validation images right, but for those it loses, and some others."""
    correct = np.arange(VALIDATION) < 400
    correct[:lost], correct[VALIDATION - gained :] = False, True
    right = bits(correct) if known else None
    chosen = accuracy(int(correct.sum()), VALIDATION, right).model_copy(update={"split": "validation"})
    rows = (latency_row("openvino", 1, ms),)
    own = variant("a", validation=chosen, inference=inference(macs, latency=rows), stage_key=f"{lost} {gained} {macs}")
    return Side(derive(example()).model_copy(update={"variants": (own,), "efficiency": ()}), own)


def standing(*sides: Side, objectives: tuple[str, ...] = BOTH) -> list[str]:
    found = {
        number: {
            "validation": each.variant.validation.top1 if each.variant.validation else 0,
            "macs": each.variant.inference.macs,
            "latency.openvino.1": each.variant.inference.latency[0].p50_ms,
        }
        for number, each in enumerate(sides)
    }
    return [each.dominance for _, each in sorted(dominance(dict(enumerate(sides)), found, objectives).items())]


def test_dominance_is_shown_by_the_paired_interval() -> None:
    assert tango_upper(0, 3, VALIDATION) > 0 > tango_upper(0, 6, VALIDATION), "three lost images are not enough"
    assert standing(side(0), side(3)) == ["front", "apparent"]
    assert standing(side(0), side(6)) == ["front", "shown"]
    assert standing(side(0), side(16, 10)) == ["front", "apparent"], "26 images differ, and six are lost as before"


def test_several_dominated_trials_are_tested_together() -> None:
    """With ten tests each is at 99.5%, for which six lost images of 500 are not enough."""
    assert paired_difference(6, 0, VALIDATION, 0.995).low < 0 < paired_difference(6, 0, VALIDATION).low
    many = standing(side(0), *(side(6, macs=1000 + number) for number in range(10)))
    assert many == ["front"] + ["apparent"] * 10


def test_dominance_needs_the_same_images_and_their_bits() -> None:
    assert standing(side(0), side(60, known=False)) == ["front", "apparent"]
    other = side(60)
    data = other.run.data.model_copy(update={"test_sha256": "other", "test_labels": None})
    moved = Side(other.run.model_copy(update={"data": data}), other.variant)
    assert standing(side(0), moved) == ["front", "apparent"]
    seed = {**other.run.recipe.resolved, "seed": 1}
    split = Side(
        other.run.model_copy(update={"recipe": other.run.recipe.model_copy(update={"resolved": seed})}), other.variant
    )
    assert standing(side(0), split) == ["front", "apparent"], "another seed splits validation in another way"


def test_costs_have_to_be_shown_too() -> None:
    timed = ("validation", "latency.openvino.1")
    assert standing(side(0, ms=1.0), side(60, ms=1.5), objectives=timed) == ["front", "shown"]
    assert standing(side(0, ms=1.0), side(60, ms=1.001), objectives=timed) == ["front", "apparent"]
