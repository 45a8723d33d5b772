"""Collapsed accuracy, and what to try next where quantization is its reason."""

from __future__ import annotations

from compress.results import LayerNoise, Quantization

COLLAPSE = 0.10
"""Loss of accuracy, a fraction, that is worth a warning in the first lines."""

EXPLAINS = 0.1  # share of the logits' error, from which on a layer is named
NAMED = 3

AGAINST = {
    "saturation": "`observer: minmax`",
    "outlier channel": "`method: nncf` with `equalize: true`",
    "rounding": "`observer: percentile`",
    "weights": "`training`",
}
"""What helps against the largest error of a layer, by its cause."""


def layers_to_blame(quantization: Quantization) -> tuple[LayerNoise, ...]:
    """Return the layers, at most three, that explain the error of the logits, the first most of it."""
    noise = quantization.noise
    explain = (layer for layer in noise.layers if (layer.removes or 0.0) >= EXPLAINS) if noise else ()
    return tuple(explain)[:NAMED]


def next_steps(quantization: Quantization) -> tuple[str, ...]:
    """List what to try after a collapse, the cheapest first; empty where its reason was not found."""
    noise, blamed = quantization.noise, layers_to_blame(quantization)
    steps = ["more calibration images, such as those of validation"] if noise and noise.covers is False else []
    steps += [
        AGAINST[layer.cause] for layer in blamed if AGAINST[layer.cause] != f"`observer: {quantization.observer}`"
    ]
    if not steps:
        return ()
    if quantization.trials is None:
        steps.append("`keep_accuracy`, which tries other observers and layers in float by itself")
    return tuple(dict.fromkeys((*steps, "`training`")))


def blame(quantization: Quantization) -> str | None:
    """Name the layers that explain the error and the calibration set that does not cover validation."""
    noise, blamed = quantization.noise, layers_to_blame(quantization)
    if noise is None:
        return None
    parts = []
    if blamed:
        named = ", ".join(f"{layer.layer} {100 * (layer.removes or 0):.0f}% ({layer.cause})" for layer in blamed)
        parts.append(f"Share of the logits' error that disappears with one layer in float: {named}")
    if noise.covers is False and noise.outside is not None:
        parts.append(
            f"The calibration set does not cover validation: {100 * noise.outside:.2g}% of the values of a layer are "
            "beyond its range"
        )
    return ". ".join(parts) or None
