"""Doublings, months and lifetimes by property."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.efficiency.doublings import (
    doublings,
    inference_ratios,
    latency_basis,
    months_of_gap,
    months_of_growth,
)
from compress.efficiency.lifetime import break_even, cached_queries, ceiling, lifetime_ratio, share_ratio
from compress.efficiency.trends import gap, years_to_catch_up

costs = st.floats(1e-3, 1e15)


def known(value: float | None) -> float:
    assert value is not None
    return value


def test_equal_costs_are_no_doubling() -> None:
    assert doublings(1) == 0
    assert doublings(None) is None


@given(costs, costs, costs)
def test_doublings_add_along_a_chain_and_flip_when_swapped(a: float, b: float, c: float) -> None:
    assert known(doublings(a / b)) + known(doublings(b / c)) == pytest.approx(known(doublings(a / c)), abs=1e-9)
    assert known(doublings(a / b)) == pytest.approx(-known(doublings(b / a)), abs=1e-9)


@pytest.mark.parametrize("ratio", [0, -1, float("inf"), float("nan")])
def test_no_ratio_no_doublings(ratio: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        doublings(ratio)


def test_months_need_a_trend() -> None:
    assert months_of_growth(None, 4.1) is None
    assert months_of_gap(None, 4.1, 1.35) is None
    with pytest.raises(ValueError):
        months_of_growth(1, 1)
    with pytest.raises(ValueError):
        months_of_gap(1, 1.3, 1.35)
    with pytest.raises(ValueError):
        years_to_catch_up(4.1, 1, 2012, 2024)


@given(st.floats(1.01, 20), st.floats(1.01, 5), st.floats(0, 15))
def test_hardware_has_caught_up_when_it_has(growth: float, hardware: float, years: float) -> None:
    later = years_to_catch_up(growth, hardware, 0, years)
    assert hardware**later == pytest.approx(gap(growth, hardware, 0, years), rel=1e-6)


@given(costs, costs, costs, st.floats(0, 1e15))
def test_lifetime_costs_meet_at_break_even(c_b: float, c_c: float, k: float, training: float) -> None:
    queries = break_even(k, c_b, c_c)
    if c_b <= c_c:
        assert queries is None
    else:
        assert lifetime_ratio(known(queries), c_b, c_c, k, training) == pytest.approx(1)


def test_break_even_unknown() -> None:
    assert break_even(None, 2, 1) is None
    assert break_even(10, 2, None) is None
    with pytest.raises(ValueError):
        break_even(-1, 2, 1)


@given(st.floats(0, 0.99), st.floats(1, 1e6), st.floats(0, 10))
def test_shares_stay_below_the_ceiling(s: float, r: float, k: float) -> None:
    assert share_ratio(s, r, k) <= ceiling(s) * (1 + 1e-12)


@given(*[st.floats(1, 1e3)] * 5)
def test_two_forms_of_the_lifetime_ratio_agree(q: float, c_b: float, c_c: float, k: float, made: float) -> None:
    life = made + q * c_b
    shares = share_ratio(q * c_b / life, c_b / c_c, k / life)
    assert lifetime_ratio(q, c_b, c_c, k, made) == pytest.approx(shares, rel=1e-6)


def test_a_cache_takes_queries_from_both_sides() -> None:
    assert cached_queries(1000, 0.3) == pytest.approx(700)
    with pytest.raises(ValueError):
        cached_queries(1000, 1.3)


def row(runtime: str, batch: int, p50: float, times: float | None = None, precision: str = "fp32") -> dict[str, Any]:
    return {
        "runtime": runtime,
        "precision": precision,
        "batch": batch,
        "threads": 2,
        "resolution": 64,
        "p50_ms": p50,
        "p99_ms": p50 * 1.2,
        "ratio_to_reference": times,
        "ratio_ci95": None,
    }


def test_latency_is_taken_at_the_largest_common_batch_in_the_fastest_runtime() -> None:
    reference = {"latency": [row("openvino", 1, 4), row("openvino", 16, 40), row("pytorch", 16, 60)]}
    variant = {
        "latency": [
            row("openvino", 1, 1),
            row("openvino", 16, 10, precision="int8"),
            row("pytorch", 16, 20),
            row("ncnn", 16, 1),
            row("openvino", 64, 1),
        ]
    }
    basis = latency_basis(reference, variant)
    assert basis is not None
    assert (basis["runtime"], basis["batch"], basis["precision"], basis["ratio"]) == ("openvino", 16, "int8", 4)


def test_latency_prefers_ratios_measured_in_turns() -> None:
    reference, variant = {"latency": [row("ort", 16, 40, 2.0)]}, {"latency": [row("ort", 16, 10, 9.0)]}
    assert inference_ratios(reference, variant)["latency"] == pytest.approx(4.5)


def test_unknown_is_none_and_never_zero() -> None:
    assert inference_ratios({}, {}) == {"macs": None, "bit_operations": None, "latency": None, "energy": None}
    # A count of 0 is a quantized graph that was not counted, not a free model.
    assert inference_ratios({"macs": 10}, {"macs": 0})["macs"] is None


def counts(macs: int, operations: int, bits: int) -> dict[str, Any]:
    return {"macs": macs, "bit_operations": operations, "weight_bits": bits, "activation_bits": bits}


def test_flops_in_place_of_macs_are_refused_on_either_side() -> None:
    macs = 1000
    right = counts(macs, macs * 1024, 32), counts(macs, macs * 64, 8)
    partly = counts(macs, 900 * 64 + 100 * 1024, 8)  # a tenth of the layers stayed in float
    assert inference_ratios(*right)["bit_operations"] == 16
    assert inference_ratios(right[0], partly)["macs"] == 1
    for wrong in (counts(2 * macs, macs * 1024, 32), counts(2 * macs, macs * 64, 8), counts(macs // 2, macs * 1024, 8)):
        for pair in ((right[0], wrong), (wrong, right[1])):
            with pytest.raises(ValueError, match="FLOPs"):
                inference_ratios(*pair)
