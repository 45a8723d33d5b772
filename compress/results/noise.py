"""Why quantization costs accuracy: errors of the layers, and how far the calibration set covers validation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record, absent

Cause = Literal["saturation", "outlier channel", "rounding", "weights"]
"""The largest error of a layer: input values beyond its integers, a channel that makes the step too coarse for the
others, the step itself, or rounded weights."""


class LayerNoise(Record):
    """The error of one quantized layer. Ratios are power of the signal to power of the error, in dB."""

    layer: str = Field(description="Name of the layer")
    cause: Cause = Field(description="Largest part of its own error")
    removes: float | None = absent(
        "Share of the squared error of the logits that disappears if this layer alone stays in float, negative where "
        "the error grows; null where it was not tried"
    )
    sqnr_db: float | None = Field(
        description="SQNR of its output if it alone is quantized, on the calibration set; null without error"
    )
    network_sqnr_db: float | None = Field(
        description="SQNR of its output in the quantized network, on the calibration set; null without error"
    )
    range: Interval = Field(description="Smallest and largest input value on the calibration set, of the float network")
    quantized_range: Interval = Field(description="Smallest and largest input value that its integers can have")
    channel_spread: float | None = absent("Largest magnitude of any input channel, as a multiple of the median one's")
    saturated: Fraction = Field(description="Share of the input values of the calibration set beyond quantized_range")
    saturated_validation: Fraction | None = absent("The same of validation images")
    outside: Fraction | None = absent("Share of the input values of validation images beyond range")
    outside_images: Fraction | None = absent("Share of the validation images with such values")
    half_range: Fraction | None = absent(
        "Expected width of the range that a random half of the calibration images finds, as a share of range"
    )


class QuantizationNoise(Record):
    """Errors of a quantized network against its float network, layer by layer."""

    calibration_images: Count = Field(description="Images of the calibration set that ranges were found on")
    images: Count = Field(description="Images of it that errors were measured on")
    validation_images: Count = Field(description="Validation images that were compared with the calibration set")
    logits_sqnr_db: float | None = Field(description="SQNR of the logits on the calibration set; null without error")
    covers: bool | None = Field(
        description="False where a layer has more than 0.1% of its input values on validation, as many as `observer: "
        "percentile` leaves out, beyond the range of the calibration set, in more than 10% of the images; null without "
        "validation images"
    )
    outside: Fraction | None = absent(
        "Largest share of values beyond range of any layer on validation, of layers that are not covered if any are"
    )
    half_range: Fraction | None = absent("Mean of half_range over all layers")
    layers: tuple[LayerNoise, ...] = Field(
        description="Quantized layers, those first whose return to float removes most of the error; at most 20"
    )
    layers_left_out: Count = Field(description="Further layers, whose error matters less")
