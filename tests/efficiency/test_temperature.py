"""The temperature against scipy's minimum of the NLL."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from compress.efficiency import temperature as module
from compress.efficiency.temperature import LIMITS, fit_temperature


def drawn(temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are this many times too large, and labels drawn from the right ones."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (4000, 6))
    shares = np.exp(log_softmax(logits, 1)).cumsum(1)
    return logits * temperature, (shares < rng.random((4000, 1))).sum(1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_it_is_the_minimum_of_the_nll_and_close_to_the_true_one(temperature: float) -> None:
    logits, labels = drawn(temperature)

    def nll(log: float) -> float:
        return float(-log_softmax(logits / np.exp(log), 1)[np.arange(len(labels)), labels].mean())

    found = fit_temperature(logits.astype(np.float32), labels)
    assert found == pytest.approx(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x), rel=1e-4)
    assert found == pytest.approx(temperature, rel=0.05)


def test_blocks_of_rows_add_up_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, labels = drawn(1.7)
    whole = fit_temperature(logits, labels)
    monkeypatch.setattr(module, "ROWS", 37)
    assert fit_temperature(logits, labels) == whole


def test_no_more_than_a_block_is_converted_at_once() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, (40_000, 50)).astype(np.float32)  # as float64 16 MB
    labels = np.where(rng.random(40_000) < 0.5, logits.argmax(1), rng.integers(0, 50, 40_000))
    tracemalloc.start()
    try:
        assert fit_temperature(logits, labels)
        assert tracemalloc.get_traced_memory()[1] < 5 * module.ROWS * logits.shape[1] * 8
    finally:
        tracemalloc.stop()


def test_there_is_none_where_nll_has_no_minimum() -> None:
    logits = np.eye(3)
    assert fit_temperature(logits, np.arange(3)) is None  # all right
    assert fit_temperature(logits, (np.arange(3) + 1) % 3) is None  # all wrong
    logits, labels = drawn(2 * LIMITS[1])
    assert fit_temperature(logits, labels) is None


@pytest.mark.parametrize(("logits", "labels"), [([[1.0, 2.0]], [0, 1]), ([], []), ([[np.inf, 0.0]], [0])])
def test_what_cannot_be_fitted_is_refused(logits: list[list[float]], labels: list[int]) -> None:
    with pytest.raises(ValueError, match="no temperature can be fitted"):
        fit_temperature(np.array(logits), np.array(labels))
