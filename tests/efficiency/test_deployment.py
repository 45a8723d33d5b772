"""What a million inferences cost, and what making a variant has cost on top of its reference."""

from __future__ import annotations

from typing import Any

import pytest

from compress.efficiency.deployment import costs_of_million, price_per_million, seconds_per_million
from compress.efficiency.savings import worth

TREND = {"name": "t", "growth": 4.1, "hardware": 1.352, "basis": "b", "source": "s"}


def test_a_million_images() -> None:
    assert seconds_per_million(batch_ms=32, batch=16) == 2000
    assert price_per_million(seconds=1800, price_per_hour=0.5) == 0.25
    with pytest.raises(ValueError):
        seconds_per_million(0, 16)


def test_the_lowest_time_per_image_counts() -> None:
    rows = [
        {"runtime": "onnxruntime", "precision": "fp32", "batch": 1, "p50_ms": 3.0},
        {"runtime": "openvino", "precision": "int8", "batch": 16, "p50_ms": 32.0},
    ]
    variants: list[dict[str, Any]] = [
        {"id": "a", "inference": {"latency": rows, "energy_j": {"value": 0.002, "method": "estimated"}}},
        {"id": "b", "inference": {"latency": []}},
    ]
    (found,) = costs_of_million(variants, {"price_per_hour": 0.9})
    assert (found["id"], found["runtime"], found["batch"], found["seconds"]) == ("a", "openvino", 16, 2000)
    assert found["price"] == pytest.approx(0.5) and found["energy_j"] == pytest.approx(2000)
    assert costs_of_million(variants, {"price_per_hour": None})[0]["price"] is None


def variant(id: str, kind: str, parent: str | None, macs: int, training: int) -> dict[str, Any]:
    return {
        "id": id,
        "kind": kind,
        "parent": parent,
        "inference": {"macs": macs, "bit_operations": macs * 1024, "latency": []},
        "training": {"macs": training, "curve": []},
    }


CHAIN = [
    variant("teacher", "teacher", None, 4000, 0),
    variant("distilled", "distill", "teacher", 1000, 9_000_000),
    variant("pruned", "prune", "distilled", 500, 11_000_000),
    variant("int8", "quantize", "pruned", 500, 11_000_500),
    variant("shrunk", "shrink", "pruned", 480, 10_000_000),
]
PAIRED = dict.fromkeys(("teacher", "distilled", "pruned", "int8", "shrunk"), (20, 22, 2500))


@pytest.mark.parametrize(
    ("reference", "name", "effort"),
    [
        ("distilled", "pruned", 2_000_000),  # made from it: what came on top
        ("distilled", "int8", 2_000_500),
        ("distilled", "shrunk", 10_000_000),  # trained from scratch: all of it
        ("teacher", "pruned", 11_000_000),  # the student's ledger does not start with the teacher's
    ],
)
def test_making_a_variant_counts_once(reference: str, name: str, effort: int) -> None:
    records = worth(CHAIN, reference, 0.01, TREND, PAIRED)["variants"]
    record = next(record for record in records if record["id"] == name)
    c_b = next(v for v in CHAIN if v["id"] == reference)["inference"]["macs"]
    c_c = next(v for v in CHAIN if v["id"] == name)["inference"]["macs"]
    assert record["lifetime"]["effort"] == effort
    assert record["break_even_queries"] == pytest.approx(effort / (c_b - c_c))


def test_a_deployment_has_its_own_queries_cache_and_share() -> None:
    profile = {"queries": 5e7, "hit_rate": 0.5, "inference_share": 0.9}
    records = worth(CHAIN, "distilled", 0.01, TREND, PAIRED, profile)["variants"]
    life = next(record for record in records if record["id"] == "pruned")["lifetime"]
    ratios = {at["queries"]: at["ratio"] for at in life["at_queries"]}
    assert ratios[5e7] == pytest.approx((9e6 + 2.5e7 * 1000) / (11e6 + 2.5e7 * 500))
    assert life["at_inference_share"] == {
        "share": 0.9,
        "ratio": pytest.approx(1 / (0.1 + 0.9 / 2)),
        "ceiling": pytest.approx(10),
    }
