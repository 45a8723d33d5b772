"""Doublings, months and lifetimes by property."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_factory import inference
from results_factory import latency_row as row

from compress.efficiency.comparison import inference_doublings, latency_basis
from compress.efficiency.doublings import doublings, months_of_gap, months_of_growth
from compress.efficiency.lifetime import break_even, cached_queries, ceiling, lifetime_ratio, share_effort, share_ratio
from compress.efficiency.trends import gap, years_to_catch_up
from compress.results import Doublings

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


@given(costs, costs, costs, costs)
def test_lifetime_costs_meet_at_break_even(c_b: float, c_v: float, made_b: float, extra: float) -> None:
    queries = break_even(made_b, made_b + extra, c_b, c_v)
    if c_b <= c_v:
        assert queries is None
    else:
        assert lifetime_ratio(known(queries), c_b, c_v, made_b, made_b + extra) == pytest.approx(1)


def test_a_variant_that_is_cheaper_to_make_pays_at_once() -> None:
    assert break_even(10, 8, 2, 1) == 0
    assert lifetime_ratio(0, 2, 1, 10, 8) == 10 / 8


def test_queries_of_a_cache_count_for_break_even() -> None:
    assert break_even(0, 10, 2, 1, hit_rate=0.75) == 40
    with pytest.raises(ValueError):
        break_even(0, 10, 2, 1, hit_rate=1)


def test_break_even_unknown() -> None:
    assert break_even(None, 10, 2, 1) is None
    assert break_even(0, 10, 2, None) is None
    with pytest.raises(ValueError):
        break_even(-1, 2, 1, 1)


@given(st.floats(0, 0.99), st.floats(1, 1e6), st.floats(0, 10))
def test_shares_stay_below_the_ceiling(s: float, r: float, k: float) -> None:
    assert share_ratio(s, r, k) <= ceiling(s) * (1 + 1e-12)


@given(*[st.floats(1, 1e3)] * 5)
def test_two_forms_of_the_lifetime_ratio_agree(q: float, c_b: float, c_v: float, made_v: float, made_b: float) -> None:
    share = q * c_b / (made_b + q * c_b)
    effort = known(share_effort(share, made_b, made_v))
    assert lifetime_ratio(q, c_b, c_v, made_b, made_v) == pytest.approx(share_ratio(share, c_b / c_v, effort), rel=1e-6)


def test_a_cache_takes_queries_from_both_sides() -> None:
    assert cached_queries(1000, 0.3) == pytest.approx(700)
    with pytest.raises(ValueError):
        cached_queries(1000, 1.3)


ALL = ("openvino", "pytorch", "ort")


def test_latency_compares_the_fastest_granted_files_at_the_largest_common_batch() -> None:
    reference = [row("openvino", 1, 4), row("openvino", 16, 40), row("pytorch", 16, 60), row("ort", 16, 30)]
    variant = [
        row("openvino", 1, 1),
        row("openvino", 16, 10, precision="int8"),
        row("pytorch", 16, 20),
        row("ort", 16, 5),  # not granted
        row("openvino", 64, 1),
    ]
    basis = known(latency_basis(reference, variant, ALL, ("openvino", "pytorch")))
    assert (basis.runtime, basis.reference_runtime, basis.batch, basis.precision) == ("openvino", "ort", 16, "int8")
    assert (
        basis.ratio == pytest.approx(3)
        and basis.ratio_ci95
        and basis.ratio_ci95[0] <= basis.ratio <= basis.ratio_ci95[1]
    )
    assert latency_basis(reference, variant, ALL, ()) is None
    assert latency_basis(reference, variant, (), ALL) is None


@given(st.lists(st.tuples(st.floats(0.1, 1e3), st.floats(0.1, 1e3)), min_size=3, max_size=3))
def test_best_against_best_never_exceeds_the_runtime_that_suits_the_variant(times: list[tuple[float, float]]) -> None:
    reference = [row(name, 16, base) for name, (base, _) in zip(ALL, times, strict=True)]
    variant = [row(name, 16, own) for name, (_, own) in zip(ALL, times, strict=True)]
    where_it_is_fastest = min(times, key=lambda pair: pair[1])
    basis = known(latency_basis(reference, variant, ALL, ALL))
    assert basis.ratio <= where_it_is_fastest[0] / where_it_is_fastest[1] * (1 + 1e-12)


def test_unknown_is_none_and_never_zero() -> None:
    # A count of 0 is a quantized graph that was not counted, not a free model.
    nothing = Doublings(macs=None, bit_operations=None, latency=None, energy=None)
    assert inference_doublings(inference(0), inference(0)) == nothing
    assert inference_doublings(inference(10), inference(0)) == nothing


def test_flops_in_place_of_macs_are_refused_on_either_side() -> None:
    macs = 1000
    right = inference(macs, 32), inference(macs, 8)
    partly = inference(macs, 8, bit_operations=900 * 64 + 100 * 1024)  # a tenth of the layers stayed in float
    assert inference_doublings(*right).bit_operations == 4
    assert inference_doublings(right[0], partly).macs == 0
    flops_in_float = inference(2 * macs, 32, bit_operations=macs * 1024)
    flops_in_int8 = inference(2 * macs, 8, bit_operations=macs * 64)
    half = inference(macs // 2, 8, bit_operations=macs * 1024)
    for wrong in (flops_in_float, flops_in_int8, half):
        for pair in ((right[0], wrong), (wrong, right[1])):
            with pytest.raises(ValueError, match="FLOPs"):
                inference_doublings(*pair)
