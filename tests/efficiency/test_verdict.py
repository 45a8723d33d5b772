"""Verdicts: what is shown, error rates of passing and failing wrongly, and the images that could tell."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import environment

from compress.efficiency.intervals import MIN_IMAGES, wilson
from compress.efficiency.verdict import EXIT_STATUS, Comparison, Estimate, decide, overall, share


@pytest.mark.parametrize(
    ("comparison", "bound", "verdict"),
    [
        (">=", 0.88, "pass"),
        (">=", 0.90, "cannot tell"),
        (">=", 0.93, "fail"),
        ("<=", 0.93, "pass"),
        ("<=", 0.90, "cannot tell"),
        ("<=", 0.88, "fail"),
    ],
)
def test_a_share_is_decided_by_its_whole_interval(comparison: Comparison, bound: float, verdict: str) -> None:
    decision = decide(share(905, 1000, ""), comparison, bound)
    assert decision.verdict == verdict and decision.ends == wilson(905, 1000)
    assert (decision.images_needed is not None) == (verdict == "cannot tell")


@given(st.integers(0, 200), st.floats(0.01, 0.99), st.integers(1, 50))
def test_more_tests_never_turn_a_verdict_around(correct: int, bound: float, tests: int) -> None:
    """A pass stays one; a failure becomes at most unknown."""
    alone, together = (decide(share(correct, 200, ""), ">=", bound, count) for count in (1, tests))
    assert together.verdict in {alone.verdict, "cannot tell"}
    assert alone.verdict != "pass" or together.verdict == "pass"
    if together.verdict == "cannot tell" and together.images_needed is not None:
        assert together.images_needed > 200


def test_counted_figures_are_decided_exactly() -> None:
    assert decide(Estimate(0.1 + 0.2, ""), "<=", 0.3).verdict == "pass", "but for rounding"
    assert decide(Estimate(301.0, ""), "<=", 300).verdict == "fail"
    assert decide(Estimate(1.0, ""), ">=", 1.0, tests=9).verdict == "pass"


def test_latency_needs_no_images_and_no_adjustment() -> None:
    ends = (0.01, 0.2)
    estimate = Estimate(0.1, "", lambda confidence: ends)
    assert decide(estimate, "<=", 0.05).images_needed is None
    assert decide(estimate, "<=", 0.005, tests=100).verdict == "fail"


def test_few_images_show_nothing() -> None:
    few = MIN_IMAGES - 1
    decision = decide(share(few, few, ""), ">=", 0.1)
    assert decision.verdict == "cannot tell" and decision.images_needed == MIN_IMAGES
    assert decide(share(0, few, ""), ">=", 0.9).verdict == "cannot tell"
    assert decide(share(MIN_IMAGES, MIN_IMAGES, ""), ">=", 0.1).verdict == "pass"


def test_a_figure_at_its_bound_names_no_images() -> None:
    assert decide(share(50, 100, ""), ">=", 0.5).images_needed is None


@pytest.mark.parametrize(("value", "bound"), [(-7 / 1000, 0.01 * -0.7), (-0.1 - 0.2, -0.3), (-29 / 1000, -2.9 * 0.01)])
def test_rounding_of_a_figure_at_its_bound_names_no_images(value: float, bound: float) -> None:
    assert value != bound
    estimate = Estimate(value, "", lambda _: (value - 0.01, value + 0.01), 1000, 0.007)
    assert decide(estimate, ">=", bound).images_needed is None
    needed = decide(estimate, ">=", bound + 1e-6).images_needed
    assert needed and needed > 1000, "a small distance that is none of rounding"


@pytest.mark.parametrize("figures", [1, 10])
def test_errors_are_as_rare_as_said(figures: int) -> None:
    """All figures are at their bound in truth, where 2.5% are nominal, and Wilson's interval is an approximation."""
    rng, n, bound, rounds = np.random.default_rng(0), 1000, 0.9, 2000
    passed = failed = 0
    for correct in rng.binomial(n, bound, (rounds, figures)):
        verdicts = {decide(share(int(count), n, ""), ">=", bound, figures).verdict for count in correct}
        passed += verdicts == {"pass"}
        failed += "fail" in verdicts
    assert passed / rounds <= 0.035 and failed / rounds <= 0.04


def test_one_failure_is_that_of_all() -> None:
    assert overall(["pass", "cannot tell", "fail"]) == "fail"
    assert overall(["pass", "cannot tell"]) == "cannot tell" and overall(["pass"]) == overall([]) == "pass"
    assert sorted(EXIT_STATUS.values()) == [0, 3, 4]


def test_it_loads_where_only_a_runtime_is_installed() -> None:
    code = (
        "import sys, compress.efficiency.verdict; assert 'pydantic' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=environment())
