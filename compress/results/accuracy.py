"""Accuracy of a variant, its own and as published, and published speed and memory."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Hexadecimal, Interval, Record, absent


class Accuracy(Record):
    """Top-1 accuracy on one split."""

    top1: Fraction = Field(description="Share of images whose most probable class is the label")
    correct: Count = Field(description="Correctly classified images")
    n: Count = Field(description="Images of the split")
    ci95: Interval = Field(description="Wilson 95% score interval of top1")
    split: str = Field(description="Split that accuracy is measured on")
    right: Hexadecimal | None = absent(
        "One bit per image of the split, 1 where the prediction is correct; hexadecimal, most significant bit first"
    )


class Published(Record):
    """Accuracy that others published for the same model."""

    top1: Fraction = Field(description="Published top-1")
    source: str = Field(description="Where it was published")


class PublishedInference(Record):
    """Speed and memory that others published for the same kind of model; nothing of it was measured here."""

    model: str = Field(description="Model that was measured, as published")
    device: str = Field(description="Device that it ran on")
    setting: str = Field(description="Runtime, precision, batch and resolution")
    images_per_s: float = Field(description="Published throughput, images per second")
    latency_ms: float | None = Field(description="Published latency of a batch, milliseconds")
    memory_mb: float | None = Field(description="Published memory, 10^6 bytes")
    source: str = Field(description="Where it was published")


class Control(Record):
    """Accuracy of a control, a `shrink` or `match` stage, against the variant that it controls for."""

    of: str = Field(description="Id of the variant")
    gain: float = Field(
        description="Top-1 of the variant minus top-1 of the control on the same test images; a fraction"
    )
    repeats: str | None = absent("Id of the `train` stage that a `match` stage repeats for longer")
    gain_ci95: Interval = Field(description="Tango's paired 95% score interval of gain")
