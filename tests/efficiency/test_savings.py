"""Savings against a reference, from records of variants."""

from __future__ import annotations

import pytest
from results_factory import TREND, accuracy, inference, training
from results_factory import variant as make_variant

from compress.efficiency.savings import savings
from compress.results import Doublings, Savings, Variant, VariantSavings

N = 2500


def variant(id: str, kind: str, macs: int, bits: int = 32, spent: int = 0, correct: int = 2000) -> Variant:
    return make_variant(
        id, kind, accuracy=accuracy(correct, N), inference=inference(macs, bits), training=training(spent)
    )


VARIANTS = [
    variant("teacher", "teacher", 4000),
    variant("distilled", "distill", 1000, spent=6_000_000, correct=2002),
    variant("pruned", "prune", 500, spent=7_000_000, correct=1900),
    variant("int8", "quantize", 500, 8, spent=7_000_000, correct=1899),
]
PAIRED = {"distilled": (20, 22, N), "pruned": (150, 50, N), "int8": (151, 50, N)}


def against_teacher() -> dict[str, VariantSavings]:
    return by_id(savings(VARIANTS, "teacher", 0.01, TREND, PAIRED))


def by_id(entry: Savings) -> dict[str, VariantSavings]:
    entry.to_json()  # which refuses what is not a number
    return {record.id: record for record in entry.variants}


def test_savings_of_a_chain() -> None:
    found = against_teacher()
    assert set(found) == {"distilled", "pruned", "int8"}
    distilled = found["distilled"]
    assert distilled.granted
    assert distilled.accuracy_difference == pytest.approx(-2 / N)
    assert distilled.doublings == Doublings(macs=2, bit_operations=2, latency=None, energy=None)
    assert distilled.months_of_growth == pytest.approx(11.8, abs=0.05)
    assert distilled.break_even_queries == 2000
    assert found["int8"].doublings.bit_operations == 7


def test_not_granted_names_the_cheapest_that_is_as_accurate() -> None:
    pruned = against_teacher()["pruned"]
    assert not pruned.granted
    assert pruned.accuracy_difference == pytest.approx(0.04)
    assert pruned.months_of_growth is None and pruned.lifetime is None
    assert pruned.reason.endswith("the cheapest shown to be as accurate as teacher is distilled")


def test_nothing_granted_names_the_reference() -> None:
    entry = savings(VARIANTS, "teacher", 0.01, TREND, {})
    assert all(not record.granted and record.paired is None for record in entry.variants)
    reasons = {record.reason for record in entry.variants}
    assert all("not compared" in reason and reason.endswith("is teacher itself") for reason in reasons)


def test_swapping_reference_and_variant_flips_the_sign() -> None:
    b, c, n = PAIRED["pruned"]
    there = by_id(savings(VARIANTS, "teacher", 0.01, TREND, {"pruned": (b, c, n)}))["pruned"]
    back = by_id(savings(VARIANTS, "pruned", 0.01, TREND, {"teacher": (c, b, n)}))["teacher"]
    assert there.doublings.macs is not None and there.doublings.macs == -(back.doublings.macs or 0)
    assert there.accuracy_difference is not None and there.accuracy_difference == -(back.accuracy_difference or 0)
    assert back.break_even_queries is None


def test_lifetime_of_a_granted_variant() -> None:
    variants = [one.model_copy(update={"accuracy": accuracy(2000, N)}) for one in VARIANTS]
    record = by_id(savings(variants, "distilled", 0.01, TREND, {"int8": (3, 3, N)}))["int8"]
    assert record.granted and record.lifetime is not None
    assert record.lifetime.limit == 2
    assert record.lifetime.at_queries[-1].ratio == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize(("correct", "n"), [(940, 1000), (941, 1001)])
def test_a_baseline_measured_on_other_images_is_refused(correct: int, n: int) -> None:
    base = make_variant("base", accuracy=accuracy(945, 1000), inference=inference(1000))
    half = make_variant("half", "prune", accuracy=accuracy(correct, n), inference=inference(500))
    counts = {"half": (12, 8, 1000)}  # the reference has four more right
    with pytest.raises(ValueError, match=r"base \(945 of 1000 right\) and half .* were not measured on the same 1000"):
        savings([base, half], "base", 0.01, TREND, counts)
    half = half.model_copy(update={"accuracy": accuracy(941, 1000)})
    (record,) = savings([base, half], "base", 0.01, TREND, counts).variants
    assert record.paired is not None and record.paired.images == 1000


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody"):
        savings(VARIANTS, "nobody", 0.01, TREND, {})
