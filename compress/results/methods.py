"""Findings of pruning, sparsifying and quantizing, each on its own variants only."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record, absent
from compress.results.noise import QuantizationNoise


class LayerSensitivity(Record):
    """Accuracy with only one group of coupled layers pruned, without repair."""

    layers: tuple[str, ...] = Field(description="Layers that are pruned together")
    asked: Fraction = Field(description="Requested share of channels to remove")
    ratio: Fraction = Field(description="Share of channels that were removed")
    top1: Fraction = Field(description="Validation top-1 with only these layers pruned")
    loss: float = Field(description="Validation top-1 lost; a fraction")
    round: Count = Field(description="Pruning round")


class LatencyTrial(Record):
    """A network that was benchmarked to find how many channels may remain."""

    macs: Count = Field(description="Multiply-accumulates per image")
    p50_ms: float = Field(description="Median latency, milliseconds")
    share: float = Field(description="Latency as a share of the dense network's")
    share_ci95: Interval = Field(description="95% interval of share over rounds")
    round: Count = Field(description="Pruning round")


class Pruning(Record):
    """Channels that were removed, and what the search for them measured."""

    widths: dict[str, tuple[int, int]] = Field(description="Output channels [before, after] by layer")
    sensitivity: tuple[LayerSensitivity, ...] | None = absent("Each layer pruned alone")
    latency_trials: tuple[LatencyTrial, ...] | None = absent("Networks that were benchmarked for a latency target")
    left_whole: tuple[str, ...] | None = absent("Layers that keep their channels, as torch-pruning cannot follow them")


class Sparsity(Record):
    """Weights that were set to zero."""

    pattern: str = Field(description="2:4 or unstructured")
    zeros: Count = Field(description="Weights that are zero")
    weights: Count = Field(description="Weights of the layers that were sparsified")
    left_dense: tuple[str, ...] = Field(description="Layers that stay dense besides the classifier and those in `keep`")
    compressed_bytes: Count = Field(description="Size of the weights file after zlib, bytes")
    parent_compressed_bytes: Count = Field(description="Size of the parent's weights file after zlib, bytes")


class QuantizationTrial(Record):
    """A quantized network that was evaluated to find the layers to keep in float."""

    keep: tuple[str, ...] = Field(description="Layers in float")
    top1: Fraction = Field(description="Top-1 on validation")
    observer: str | None = absent("How ranges were found, where it is another way than at first")


class Quantization(Record):
    """How the network was quantized."""

    method: str = Field(description="Method of the network itself: torchao, nncf or onnxruntime")
    linear_weight_bits: Count | None = absent("Requested weight bits of linear layers: 8 or 4")
    observer: str | None = Field(description="How ranges were found; null where they were learnt in training")
    calibration_images: Count | None = absent("Images of the calibration set")
    keep: tuple[str, ...] = Field(description="Layers in float")
    aware: bool | None = absent("True for quantization-aware training")
    keep_found: tuple[str, ...] | None = absent("Layers of keep that were found to be needed for keep_accuracy")
    sensitivity: dict[str, float] | None = absent(
        "Mean squared error of the logits with only that layer quantized, by layer"
    )
    trials: tuple[QuantizationTrial, ...] | None = absent("Networks that were evaluated on validation")
    noise: QuantizationNoise | None = absent(
        "Errors of the layers against the float network; of post-training quantization, with `diagnose`"
    )
