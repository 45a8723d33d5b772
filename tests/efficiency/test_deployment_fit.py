"""Budgets held against figures, worked out by hand; what is another device's is not known, and not guessed."""

from __future__ import annotations

from typing import Any

import pytest

from compress.efficiency.deployment_fit import deployment_fits

EPYC = "AMD EPYC 9V74 80-Core Processor"
BUDGETS = dict.fromkeys(("latency_ms", "memory_mb", "size_mb", "energy_j"))


def variant(name: str, macs: int, bits: int, p99: float, megabytes: float, **inference: Any) -> dict[str, Any]:
    rows = [
        {"runtime": "openvino", "batch": 1, "threads": 2, "p50_ms": p99 / 2, "p99_ms": p99},
        {"runtime": "openvino", "batch": 16, "threads": 2, "p50_ms": 8 * p99, "p99_ms": 9 * p99},
    ]
    return {
        "id": name,
        "artifacts": [{"runtime": "openvino", "bytes": megabytes * 1e6}, {"runtime": "ncnn", "bytes": 99e6}],
        "inference": {"macs": macs, "bit_operations": macs * bits, "latency": rows, **inference},
    }


DENSE = variant("dense", 100, 1024, p99=40, megabytes=40, peak_memory_bytes=300e6)
PRUNED = variant("pruned", 50, 1024, p99=20, megabytes=20, peak_memory_bytes=200e6)
INT8 = variant("int8", 50, 64, p99=10, megabytes=5, peak_memory_bytes=150e6)
ALL = [DENSE, PRUNED, INT8]
for each in ALL:
    each["inference"]["peak_memory_basis"] = {"runtime": "openvino", "batch": 16}


def profile(**changes: Any) -> dict[str, Any]:
    budgets = {**BUDGETS, **changes.pop("budgets")}
    about = {"name": "d", "processor": "epyc", "runtime": "openvino", "batch": 1, "threads": None, "watts": None}
    return {**about, "budgets": budgets, **changes}


def entry(*granted: str) -> dict[str, Any]:
    return {"reference": "dense", "variants": [{"id": n, "granted": n in granted} for n in ("pruned", "int8")]}


def fits(granted: tuple[str, ...] = ("pruned", "int8"), **changes: Any) -> dict[str, Any]:
    (found,) = deployment_fits(ALL, [entry(*granted)], [profile(**changes)], EPYC)
    return found


def verdicts(found: dict[str, Any], what: str) -> dict[str, tuple[float | None, str]]:
    budgets = {fit["id"]: {b["what"]: b for b in fit["budgets"]}[what] for fit in found["fits"]}
    return {name: (budget["value"], budget["verdict"]) for name, budget in budgets.items()}


def test_on_its_own_processor_all_is_judged() -> None:
    found = fits(budgets={"latency_ms": 20, "size_mb": 20})
    assert found["here"]
    assert verdicts(found, "latency_ms") == {"dense": (40, "not met"), "pruned": (20, "met"), "int8": (10, "met")}
    assert verdicts(found, "size_mb") == {"dense": (40, "not met"), "pruned": (20, "met"), "int8": (5, "met")}
    assert [fit["meets"] for fit in found["fits"]] == [False, True, True]
    assert (found["best"], found["open"]) == ("int8", [])  # as many MACs, fewer bit operations


@pytest.mark.parametrize("processor", [None, "Cortex-A78AE"])
def test_elsewhere_only_the_size_is_known(processor: str | None) -> None:
    found = fits(processor=processor, budgets={"latency_ms": 1e9, "memory_mb": 1e9, "energy_j": 1e9, "size_mb": 20})
    assert not found["here"] and found["best"] is None
    for what in ("latency_ms", "memory_mb", "energy_j"):
        assert set(verdicts(found, what).values()) == {(None, "not measured")}
    assert {b["basis"] for b in found["fits"][0]["budgets"] if b["what"] != "size_mb"} == {"another device"}
    assert [fit["meets"] for fit in found["fits"]] == [False, None, None]
    assert found["open"] == ["int8", "pruned"], "the cheapest first; dense is ruled out by its size"


def test_elsewhere_the_size_alone_can_be_enough() -> None:
    assert fits(processor=None, budgets={"size_mb": 20})["best"] == "int8"
    assert fits(processor=None, budgets={"size_mb": 4})["best"] is None


def test_what_is_not_as_accurate_is_never_best() -> None:
    assert fits(granted=("pruned",), budgets={"size_mb": 100})["best"] == "pruned"
    assert fits(granted=(), budgets={"size_mb": 100})["best"] == "dense"
    assert fits(granted=(), budgets={"size_mb": 10})["best"] is None
    late = [entry(), {"reference": "pruned", "variants": [{"id": "int8", "granted": True}]}]
    (found,) = deployment_fits(ALL, late, [profile(budgets={"size_mb": 100})], EPYC)
    assert (found["reference"], found["best"]) == ("pruned", "int8"), "the first against which anything is granted"


def test_only_its_own_runtime_batch_and_threads_count() -> None:
    for changes in ({"runtime": "onnxruntime"}, {"batch": 4}, {"threads": 1}):
        found = fits(budgets={"latency_ms": 1e9}, **changes)
        assert set(verdicts(found, "latency_ms").values()) == {(None, "not measured")}, changes
    assert verdicts(fits(budgets={"latency_ms": 90}, batch=16, threads=2), "latency_ms")["int8"] == (90, "met")
    assert verdicts(fits(budgets={"size_mb": 1e9}, runtime="inductor"), "size_mb")["int8"] == (None, "not measured")


def test_the_memory_of_a_larger_batch_is_an_upper_bound() -> None:
    at_16 = fits(budgets={"memory_mb": 200}, batch=16)
    assert verdicts(at_16, "memory_mb") == {"dense": (300, "not met"), "pruned": (200, "met"), "int8": (150, "met")}
    at_1 = fits(budgets={"memory_mb": 200}, batch=1)
    assert verdicts(at_1, "memory_mb") == {
        "dense": (None, "not measured"),
        "pruned": (200, "met"),
        "int8": (150, "met"),
    }
    at_32 = fits(budgets={"memory_mb": 1e9}, batch=32)
    assert set(verdicts(at_32, "memory_mb").values()) == {(None, "not measured")}


def test_energy_is_measured_or_estimated_and_says_which() -> None:
    rows = [{"runtime": "openvino", "batch": 1, "threads": 2, "value": 0.3, "method": "measured: RAPL"}]
    measured = variant("measured", 1, 1, p99=40, megabytes=1, energy_j={"rows": rows})
    plain = variant("plain", 1, 1, p99=40, megabytes=1, energy_j={"rows": [], "value": None})
    profiles = [profile(budgets={"energy_j": 0.4}, watts=watts) for watts in (25, None)]
    powered, powerless = deployment_fits([measured, plain], [{"reference": "plain", "variants": []}], profiles, EPYC)
    assert verdicts(powered, "energy_j") == {"measured": (0.3, "met"), "plain": (0.5, "not met")}  # 25 W × 20 ms
    assert [fit["budgets"][0]["basis"] for fit in powered["fits"]] == ["measured: RAPL", "estimated: 25 W × latency"]
    assert verdicts(powerless, "energy_j") == {"measured": (0.3, "met"), "plain": (None, "not measured")}


def test_a_variant_of_which_nothing_is_known() -> None:
    bare = {"id": "bare", "artifacts": [], "inference": None}
    asked = profile(budgets=dict.fromkeys(BUDGETS, 1.0))
    (found,) = deployment_fits([bare], [{"reference": "bare", "variants": []}], [asked], EPYC)
    assert {b["verdict"] for b in found["fits"][0]["budgets"]} == {"not measured"}
    assert (found["best"], found["open"]) == (None, ["bare"])
