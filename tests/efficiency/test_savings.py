"""One entry of `efficiency`, and of `training_efficiency`, from variant records."""

from __future__ import annotations

import json
from typing import Any

import pytest

from compress.efficiency import training_efficiency, worth

TREND = {"name": "t", "growth": 4.1, "hardware": 1.352, "basis": "b", "source": "s"}


def variant(id: str, kind: str, macs: int, bits: int = 32, training: int | None = None) -> dict[str, Any]:
    return {
        "id": id,
        "kind": kind,
        "inference": {"macs": macs, "bit_operations": macs * bits * bits, "latency": [], "energy_j": None},
        "training": {"macs": training, "curve": []},
    }


VARIANTS = [
    variant("teacher", "teacher", 4000),
    variant("distilled", "distill", 1000, training=6_000_000),
    variant("pruned", "prune", 500, training=7_000_000),
    variant("int8", "quantize", 500, 8, training=7_000_000),
]
PAIRED = {"distilled": (20, 22, 2500), "pruned": (150, 50, 2500), "int8": (151, 50, 2500)}


def entries(**kwargs: Any) -> dict[str, dict[str, Any]]:
    result = worth(VARIANTS, "teacher", 0.01, TREND, PAIRED, **kwargs)
    json.dumps(result, allow_nan=False)
    return {entry["id"]: entry for entry in result["variants"]}


def test_worth_of_a_chain() -> None:
    found = entries()
    assert set(found) == {"distilled", "pruned", "int8"}
    distilled = found["distilled"]
    assert distilled["granted"]
    assert distilled["accuracy_difference"] == pytest.approx(-2 / 2500)
    assert distilled["doublings"] == {"macs": 2, "bit_operations": 2, "latency": None, "energy": None}
    assert distilled["months_of_growth"] == pytest.approx(11.8, abs=0.05)
    assert distilled["break_even_queries"] == 2000
    assert distilled["lifetime"] is None, "the teacher's training is not known"
    assert found["int8"]["doublings"]["bit_operations"] == 7


def test_not_granted_names_the_cheapest_that_is_as_accurate() -> None:
    pruned = entries()["pruned"]
    assert not pruned["granted"]
    assert pruned["accuracy_difference"] == pytest.approx(0.04)
    assert pruned["months_of_growth"] is None
    assert pruned["reason"].endswith("the cheapest shown to be as accurate as teacher is distilled")


def test_nothing_granted_names_the_reference() -> None:
    result = worth(VARIANTS, "teacher", 0.01, TREND, {})
    reasons = {entry["reason"] for entry in result["variants"]}
    assert all(not entry["granted"] for entry in result["variants"])
    assert all("not compared" in reason and reason.endswith("is teacher itself") for reason in reasons)


def test_swapping_reference_and_variant_flips_the_sign() -> None:
    b, c, n = PAIRED["pruned"]
    there = worth(VARIANTS, "teacher", 0.01, TREND, {"pruned": (b, c, n)})["variants"][1]
    back = worth(VARIANTS, "pruned", 0.01, TREND, {"teacher": (c, b, n)})["variants"][0]
    assert there["doublings"]["macs"] == -back["doublings"]["macs"]
    assert there["accuracy_difference"] == -back["accuracy_difference"]
    assert back["break_even_queries"] is None


def test_lifetime_where_all_is_known() -> None:
    entry = worth(VARIANTS, "distilled", 0.01, TREND, {"int8": (3, 3, 2500)})["variants"][2]
    assert entry["granted"]
    assert entry["lifetime"]["limit"] == 2
    assert entry["lifetime"]["at_queries"][-1]["ratio"] == pytest.approx(2, rel=1e-4)


@pytest.mark.parametrize("accuracy", [{"correct": 940, "n": 1000}, {"correct": 941, "n": 1001}])
def test_a_baseline_measured_on_other_images_is_refused(accuracy: dict[str, int]) -> None:
    pair = [variant("base", "train", 1000), variant("half", "prune", 500)]
    pair[0]["accuracy"], pair[1]["accuracy"] = {"correct": 945, "n": 1000}, accuracy
    counts = {"half": (12, 8, 1000)}  # the reference has four more right
    with pytest.raises(ValueError, match=r"base \(945 of 1000 right\) and half .* were not measured on the same 1000"):
        worth(pair, "base", 0.01, TREND, counts)
    pair[1]["accuracy"] = {"correct": 941, "n": 1000}
    assert worth(pair, "base", 0.01, TREND, counts)["variants"][0]["paired"]["images"] == 1000


def test_unknown_reference() -> None:
    with pytest.raises(ValueError, match="nobody"):
        worth(VARIANTS, "nobody", 0.01, TREND, {})


def curve(*points: tuple[float, float]) -> dict[str, Any]:
    return {"curve": [{"macs": macs, "top1": top1} for macs, top1 in points]}


BASELINE = {"id": "scratch", "kind": "train", "training": curve((10, 0.3), (20, 0.55), (40, 0.5))}


def test_training_efficiency_at_the_baselines_final_accuracy() -> None:
    distilled = {"id": "distilled", "kind": "distill", "training": curve((4, 0.2), (10, 0.6), (30, 0.8))}
    pruned = {"id": "pruned", "kind": "prune", "training": curve((1, 0.9))}
    distilled["training"]["teacher_pretraining"] = {"macs": 70, "source": "s"}
    (entry,) = training_efficiency([BASELINE, distilled, pruned], TREND)
    assert (entry["baseline"], entry["variant"], entry["target_top1"]) == ("scratch", "distilled", 0.5)
    assert (entry["baseline_macs"], entry["variant_macs"], entry["ratio"]) == (20, 10, 2)
    assert not entry["censored"]
    assert entry["doublings"] == 1
    assert entry["with_teacher_pretraining"] == {"ratio": 0.25, "doublings": -2}
    assert entry["months_of_gap"] == pytest.approx(7.5, abs=0.05)


def test_training_efficiency_censored_where_not_reached() -> None:
    slow = {"id": "slow", "kind": "distill", "training": curve((4, 0.2))}
    (entry,) = training_efficiency([BASELINE, slow], TREND)
    assert entry["censored"]
    assert entry["ratio"] is None and entry["doublings"] is None and entry["months_of_gap"] is None


def test_training_efficiency_at_chosen_accuracies() -> None:
    distilled = {"id": "distilled", "kind": "distill", "training": curve((4, 0.2), (10, 0.6), (30, 0.8))}
    final, early, high, beyond = training_efficiency([BASELINE, distilled], TREND, reach=(0.15, 0.7, 0.9))
    assert (final["target_top1"], final["chosen"]) == (0.5, False)
    assert final["with_teacher_pretraining"]["ratio"] is None, "nobody says what the teacher has cost"
    assert (early["target_top1"], early["chosen"], early["ratio"], early["censored"]) == (0.15, True, 10 / 4, False)
    # The baseline never reaches 70%: at least all that it spent, over what the variant took.
    assert (high["baseline_macs"], high["ratio"], high["censored"]) == (None, 40 / 30, True)
    assert (beyond["ratio"], beyond["censored"]) == (None, True)


def test_training_efficiency_without_curves() -> None:
    assert training_efficiency([{"id": "a", "kind": "train", "training": {"curve": []}}, {"id": "b"}], TREND) == []
