"""The record of why INT8 hurts, from what was measured of each layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compress.quantization.noise_sums import Sums, ratio
from compress.results import LayerNoise, QuantizationNoise
from compress.results.noise import Cause

SHOWN = 20
COVERED = 0.001  # share of values beyond the range that `observer: percentile` leaves out by default
COVERED_IMAGES = 0.1  # share of images with such values; some are beyond the range of any set that is drawn alike
OUTLIER = 16.0  # a channel that is so many times the median one costs the others four of their bits


@dataclass(frozen=True)
class Measured:
    """What was measured of a layer."""

    layer: str
    own: Sums  # of the calibration set
    validation: Sums | None
    range: tuple[float, float]
    quantized_range: tuple[float, float]
    half: float | None
    spread: float | None
    removes: float | None

    @property
    def cause(self) -> Cause:
        """The largest part of the output's error: by rounded weights, or by saturation or rounding of the input.

        Errors of weights and of inputs add up, as they are independent. On validation that of the input is larger where
        more saturates there.
        """
        own, worst = self.own, max(self.sets, key=lambda each: each.input_error)
        by_input = own.by_input * ratio(worst.input_error, own.input_error) if own.input_error else 0.0
        by_weights = max(own.alone - own.by_input, 0.0)
        if by_input > by_weights and worst.clipping > worst.rounding:
            return "saturation"
        if self.spread is not None and self.spread >= OUTLIER:
            return "outlier channel"
        return "rounding" if by_input > by_weights else "weights"

    @property
    def sets(self) -> tuple[Sums, ...]:
        return (self.own, self.validation) if self.validation else (self.own,)

    def record(self) -> LayerNoise:
        """Return the record of the layer."""
        seen = self.validation
        return LayerNoise(
            layer=self.layer,
            cause=self.cause,
            removes=self.removes,
            sqnr_db=sqnr_db(self.own.output, self.own.alone),
            network_sqnr_db=sqnr_db(self.own.output, self.own.network),
            range=self.range,
            quantized_range=self.quantized_range,
            channel_spread=self.spread,
            saturated=self.own.saturated / self.own.values,
            saturated_validation=seen.saturated / seen.values if seen else None,
            outside=seen.outside / seen.values if seen else None,
            outside_images=seen.outside_images / seen.images if seen else None,
            half_range=self.half,
        )


def noise_record(
    measured: Sequence[Measured], counts: tuple[int, int, int], logits: tuple[float, float]
) -> QuantizationNoise:
    """Return the record of a network, the layers first whose return to float removes most of the error.

    Args:
        measured: The quantized layers.
        counts: Numbers of images: the calibration set, those of it that errors were measured on, and validation.
        logits: Squares of the logits of the calibration set, and of their errors.
    """
    ordered = sorted(measured, key=lambda each: -(each.removes if each.removes is not None else -math.inf))
    layers = [each.record() for each in ordered]
    outside = [(layer.outside, layer.outside_images or 0.0) for layer in layers if layer.outside is not None]
    beyond = [values for values, images in outside if values > COVERED and images > COVERED_IMAGES]
    halves = [layer.half_range for layer in layers if layer.half_range is not None]
    return QuantizationNoise(
        calibration_images=counts[0],
        images=counts[1],
        validation_images=counts[2],
        logits_sqnr_db=sqnr_db(*logits),
        covers=not beyond if outside else None,
        outside=max(beyond or [values for values, _ in outside], default=None),
        half_range=sum(halves) / len(halves) if halves else None,
        layers=tuple(layers[:SHOWN]),
        layers_left_out=max(0, len(layers) - SHOWN),
    )


def sqnr_db(signal: float, error: float) -> float | None:
    """Return the ratio of the squares of a signal and of its error in dB; None where either is 0."""
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 else None
