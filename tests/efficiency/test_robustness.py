"""Mean corruption error and losses beyond the clean one, against direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from compress.efficiency.robustness import Corrupted, excess_losses, mean_corruption_error

N = 400
KINDS = ("jpeg", "contrast", "pixelate")


def corrupted(seed: int, clean: float, **shares: float) -> Corrupted:
    """Predictions that are correct with these probabilities, on three severities of each corruption."""
    rng = np.random.default_rng(seed)
    return Corrupted(rng.random(N) < clean, {name: rng.random((3, N)) < shares[name] for name in KINDS})


BASE = corrupted(1, 0.9, jpeg=0.8, contrast=0.7, pixelate=0.6)
OTHER = corrupted(2, 0.8, jpeg=0.3, contrast=0.6, pixelate=0.5)


def test_mean_corruption_error_is_the_mean_ratio_of_errors() -> None:
    found = mean_corruption_error(BASE, OTHER)
    assert found is not None
    assert found.value == pytest.approx(np.mean([(~OTHER.rows[k]).sum() / (~BASE.rows[k]).sum() for k in KINDS]))
    rng, replicates = np.random.default_rng(0), []
    for _ in range(2000):
        rows = rng.integers(0, N, N)
        ratios = [(~OTHER.rows[k][:, rows]).sum() / (~BASE.rows[k][:, rows]).sum() for k in KINDS]
        replicates.append(np.mean(ratios))
    assert found.error == pytest.approx(np.std(replicates), rel=0.1)  # of the bootstrap
    itself = mean_corruption_error(BASE, BASE)
    assert itself and (itself.value, itself.error) == (1, 0)


def test_there_is_no_ratio_to_a_reference_without_errors() -> None:
    perfect = Corrupted(np.ones(N, bool), {name: np.ones((3, N), bool) for name in KINDS})
    assert mean_corruption_error(perfect, OTHER) is None
    assert mean_corruption_error(Corrupted(BASE.clean, {}), Corrupted(BASE.clean, {})) is None


def test_a_loss_counts_beyond_that_on_clean_images() -> None:
    (found,) = excess_losses(BASE, [OTHER])
    clean = BASE.clean.astype(float) - OTHER.clean
    values = {k: (BASE.rows[k].astype(float) - OTHER.rows[k]).mean(0) - clean for k in KINDS}
    p_values = sorted(2 * stats.norm.sf(v.mean() / stats.sem(v)) for v in values.values() if v.mean() > 0)
    for name, each in found.items():
        assert each.beyond.value == pytest.approx(values[name].mean())
        assert each.loss == pytest.approx(BASE.rows[name].mean() - OTHER.rows[name].mean())
        assert each.beyond.interval == pytest.approx(
            values[name].mean() + stats.norm.ppf([0.025, 0.975]) * stats.sem(values[name])
        )
    assert [name for name, each in found.items() if each.shown] == ["jpeg"]
    assert found["jpeg"].p_adjusted == pytest.approx(len(KINDS) * p_values[0])  # the smallest of all three


def test_a_variant_that_is_as_much_worse_everywhere_is_hurt_by_nothing() -> None:
    lost = np.arange(N) < N // 5
    worse = Corrupted(BASE.clean & ~lost, {name: rows & ~lost for name, rows in BASE.rows.items()})
    assert not any(each.shown for each in excess_losses(BASE, [worse])[0].values())
    assert all(each.p_adjusted == 1 for each in excess_losses(BASE, [BASE])[0].values())


def test_all_files_with_different_predictions_are_tested_together() -> None:
    """Six tests: the twin's predictions are those of the other, and the third file is hurt by nothing."""
    alone = excess_losses(BASE, [OTHER])[0]["jpeg"].p_adjusted
    other, twin, _ = excess_losses(BASE, [OTHER, OTHER, corrupted(3, 0.9, jpeg=0.8, contrast=0.7, pixelate=0.6)])
    assert other["jpeg"].p_adjusted == pytest.approx(2 * alone) and twin == other


def test_few_images_show_nothing() -> None:
    few = Corrupted(np.ones(20, bool), {"jpeg": np.ones((3, 20), bool)})
    blind = Corrupted(np.ones(20, bool), {"jpeg": np.zeros((3, 20), bool)})
    found = excess_losses(few, [blind])[0]["jpeg"]
    assert found.loss == 1 and not found.shown
