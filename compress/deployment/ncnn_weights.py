"""ncnn's file of weights: what it stores of each layer, and in which precision (`src/modelbin.cpp`, `src/layer`)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

FLOAT_TAG = bytes(4)
HALF_TAG = (0x01306B47).to_bytes(4, "little")
BEGIN_TAGGED = ("Gemm", "MultiHeadAttention", "Embed")
"""Kinds of layers whose size is not known here, and whose first weights have a tag."""


@dataclass(frozen=True)
class Layer:
    """A line of the graph: kind, name, names of inputs and outputs, and settings by number."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    settings: dict[str, str]

    @classmethod
    def of(cls, words: Sequence[str]) -> Layer:
        kind, name, taken, made, *rest = words
        blobs, settings = rest[: int(taken) + int(made)], rest[int(taken) + int(made) :]
        split = dict(entry.split("=", 1) for entry in settings)
        return cls(kind, name, tuple(blobs[: int(taken)]), tuple(blobs[int(taken) :]), split)

    def number(self, key: int, default: int = 0) -> int:
        """Return a setting that is a whole number."""
        return int(self.settings.get(str(key), default))

    @property
    def line(self) -> str:
        settings = (f"{key}={value}" for key, value in self.settings.items())
        counts = str(len(self.inputs)), str(len(self.outputs))
        return " ".join([self.kind, self.name, *counts, *self.inputs, *self.outputs, *settings])


@dataclass(frozen=True)
class Part:
    """Floats of a layer in the file of weights."""

    count: int
    tagged: bool = False  # whether four bytes before them state their type

    @property
    def length(self) -> int:
        return 4 * self.count + 4 * self.tagged


def stored_parts(layer: Layer) -> list[Part]:
    """Return what a float file stores of a layer; nothing of kinds without weights."""
    s = layer.number
    if layer.kind in ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise"):
        return [Part(s(6), tagged=True), Part(s(0) * s(5))]
    if layer.kind == "InnerProduct":
        return [Part(s(2), tagged=True), Part(s(0) * s(1))]
    if layer.kind in ("BatchNorm", "PReLU"):
        return [Part(s(0) * (4 if layer.kind == "BatchNorm" else 1))]
    if layer.kind in ("LayerNorm", "InstanceNorm"):
        return [Part(2 * s(0) * s(2, 1))]
    if layer.kind == "GroupNorm":
        return [Part(2 * s(1) * s(3, 1))]
    if layer.kind == "MemoryData":
        return [Part(math.prod(s(key) for key in (0, 1, 11, 2) if s(key)))]
    return []


def is_half(layers: Iterable[Layer], weights: BinaryIO) -> bool:
    """Whether weights are stored in FP16, by the first tag; those of normalisations and constants have none.

    Only the tag is read: the peak memory of a process that runs the file is its own.
    """
    place = 0
    for layer in layers:
        unknown = layer.kind in BEGIN_TAGGED and (layer.kind != "Gemm" or layer.number(4) or layer.number(5))
        for part in [Part(0, tagged=True)] if unknown else stored_parts(layer):
            if part.tagged:
                weights.seek(place)
                return weights.read(4) == HALF_TAG
            place += part.length
    return False
