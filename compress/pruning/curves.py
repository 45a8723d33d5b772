"""How much accuracy is lost by the share of channels that a layer loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

Curve = Sequence[tuple[float, float]]
"""Shares of a layer's channels, each with the loss of accuracy (a fraction) if it is removed."""

TIE = 1e-4  # smallest loss of accuracy assumed for the removal of a whole layer, so that layers without any loss differ


def ratios_at(curves: Mapping[str, Curve], progress: float) -> dict[str, float]:
    """Find the largest share of each layer whose removal stays within the same loss of accuracy for all layers.

    The allowed loss rises with `progress` (0 to 1) through all measured losses in equal steps. Between two measured
    shares the loss is interpolated linearly, and never falls as more is removed; a gain counts as no loss, and layers
    without any loss lose smaller shares first.
    """
    rising = {name: _rising(curve) for name, curve in curves.items()}
    losses = sorted(loss for _, losses in rising.values() for loss in losses)
    allowed = np.interp(progress * (len(losses) - 1), np.arange(len(losses)), losses)
    return {name: float(np.interp(allowed, losses, shares)) for name, (shares, losses) in rising.items()}


def _rising(curve: Curve) -> tuple[list[float], list[float]]:
    """Shares and losses of a curve from (0, 0), with strictly rising losses."""
    shares, losses, highest = [0.0], [0.0], 0.0
    for share, loss in sorted(curve):
        highest = max(highest, loss)
        shares.append(share)
        losses.append(highest + TIE * share)
    return shares, losses
