"""`architecture.json`: how to build a network again from text, however it was pruned and quantized."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError
from torch import nn

from compress.data.preprocess import Preprocess
from compress.models.class_list import ClassList
from compress.models.class_names import ARCHITECTURE
from compress.models.embedding import EmbeddingNetwork
from compress.models.hub_loader import Size
from compress.utils.errors import CompressError


class _Record(BaseModel):
    """Frozen; keys that another version of this package wrote are ignored."""

    model_config = ConfigDict(frozen=True)


class QuantizationRecord(_Record):
    """How a network was quantized, as far as rebuilding it needs."""

    method: str = "torchao"  # name in `compress.registry.QUANTIZERS`
    reduce_range: bool = True  # whether INT8 weights have 7 bits
    keep: tuple[str, ...] = ()  # names of layers that stay in float
    aware: bool = False  # whether the network was trained with fake quantization
    target: str = "x86"  # `x86` or `portable`; see `compress.quantization.config.QuantizationConfig`
    file: str | None = None  # name of the ONNX file that is the network, or None for a graph of PyTorch's
    # (scale, zero point) of each per-tensor quantize and dequantize node of a graph, in graph order
    scales: tuple[tuple[float, int], ...] | None = None
    # shape of each parameter and buffer of the float network that a graph was made from
    float_shapes: dict[str, tuple[int, ...]] | None = None


class Architecture(_Record):
    """Contents of `architecture.json`."""

    library: str  # `timm`, `torchvision`, `open_clip` or `onnx`
    model: str  # name of the model in that library
    options: dict[str, bool | int | float | str] = {}  # extra keyword arguments for the model factory
    classes: tuple[str, ...]  # names of the classes, in the order of the outputs
    resolution: int  # side of the images in pixels
    preprocess: Preprocess  # from stored pixels to what the network takes
    config: dict[str, JsonValue] | None = None  # of OpenCLIP's image tower, see `clip_classifier.vision_config`
    # by layer, every size in which the network differs from what the library builds
    sizes: dict[str, dict[str, Size]] = {}
    quantization: QuantizationRecord | None = None  # how it was quantized; None for a float network
    # width of the embeddings that it ends in, with the classes in a `classes.safetensors`; None for logits
    embedding: int | None = None

    @property
    def outputs(self) -> int:
        """Number of outputs of the stored network."""
        return self.embedding or len(self.classes)

    def with_quantization(self, record: QuantizationRecord) -> Architecture:
        """Return the architecture of the same network after it was quantized."""
        return self.model_copy(update={"quantization": record})

    def with_sizes(self, sizes: dict[str, dict[str, Size]]) -> Architecture:
        """Return the architecture with other layer sizes, of `compress.models.checkpoints.changed_sizes`."""
        return self.model_copy(update={"sizes": sizes})

    @classmethod
    def read(cls, folder: Path) -> Architecture:
        """Read the `architecture.json` in `folder`.

        Raises:
            CompressError: the file is missing or damaged, or describes no network.
        """
        try:
            values = json.loads((folder / ARCHITECTURE).read_text())
        except (OSError, ValueError, RecursionError) as error:
            raise CompressError(f"{folder} holds no variant: {ARCHITECTURE} cannot be read") from error
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise CompressError(
                f"{folder} holds no variant: {ARCHITECTURE} describes no network ({where}: {first['msg']})"
            ) from error

    def write(self, folder: Path) -> None:
        """Write `architecture.json` into `folder`."""
        values = self.model_dump(mode="json", exclude_none=True)
        if self.preprocess.crop_mode == "center":  # the default, left out as older versions did
            del values["preprocess"]["crop_mode"]
        (folder / ARCHITECTURE).write_text(json.dumps(values, indent=1))


@dataclass(frozen=True)
class Network:
    """A network, images `[batch, 3, r, r]` to logits `[batch, classes]`, and how to build it again.

    The `model` of an embedding student ends in embeddings `[batch, width]`, which `classes` maps to logits.
    """

    model: nn.Module
    architecture: Architecture
    classes: ClassList | None = None

    @property
    def classifier(self) -> nn.Module:
        """The network that gives logits, with the layers of `model`."""
        return EmbeddingNetwork(self.model, self.classes) if self.classes else self.model

    @property
    def preprocess(self) -> Preprocess:
        return self.architecture.preprocess
