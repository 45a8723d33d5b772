"""The record by which a method of post-training quantization declares itself; importing it loads no torch.

A new method is one file with a `METHOD` beside this one, and a line in `compress.registry.QUANTIZERS`. `torchao`
quantizes the network as a PyTorch graph, `nncf` and `onnxruntime` its ONNX file. These networks are variants of a run:
stored, evaluated and exported. Other methods belong to one runtime, and make its file when a variant is exported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compress import registry
from compress.quantization.config import QuantizationConfig
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.models.architecture import Architecture


class FloatFile(NamedTuple):
    """The ONNX file of a float network."""

    file: bytes
    names: Mapping[str, str]  # names of its layers by those of the nodes


@dataclass(frozen=True)
class Quantized:
    """A quantized network."""

    # images `[b, 3, r, r]` to logits `[b, classes]`, for any b: a torchao graph that simulates the integer arithmetic
    # in float, or an `OnnxNetwork`
    network: nn.Module
    # (weight bits, activation bits) of every quantized layer, by its name in the float network
    layers: Mapping[str, tuple[int, int]]
    convolutions: tuple[int, int]  # number of quantized convolutions, and of all convolutions
    source: FloatFile | None = None  # what an `OnnxNetwork` was quantized from


@dataclass(frozen=True)
class Method:
    """A method of post-training quantization."""

    packages: tuple[str, ...]  # modules that must be importable
    observers: tuple[str, ...]  # observers of activation ranges that it offers; its default first
    about: str  # one line for `compress-model list`
    # `(model, batches, example, config)`: quantize `model` with ranges found on the calibration `batches`; see
    # `compress.quantization.ptq.quantize`. None where a runtime quantizes its own file (`Runtime.quantize_file`)
    calibrate: Callable[[nn.Module, Sequence[Tensor], Tensor, QuantizationConfig], Quantized] | None = None
    # `(folder, architecture)`: rebuild a stored network; None for a method whose networks are only exported, which a
    # recipe cannot name
    restore: Callable[[Path, Architecture], nn.Module] | None = None
    extra: str = ""  # extra of this package that brings the modules; empty where all installations have them
    in_file: bool = False  # whether it makes an ONNX file, in which linear layers can have 4-bit weights
    corrects: bool = False  # whether it can correct biases and equalize layers
    trains: bool = False  # whether it has quantization-aware training
    targets: tuple[str, ...] = ("x86",)  # values of `target` that it can quantize for
    reduces: bool = True  # whether its weights can have 7 bits
    keeps: bool = True  # whether single layers can stay in float

    def missing(self) -> list[str]:
        """List the packages that are not installed."""
        return [package for package in self.packages if importlib.util.find_spec(package) is None]


def require_method(name: str) -> Method:
    """Return a method by name, or raise a `CompressError` with the command that installs what is missing."""
    method = registry.quantizer(name)
    if absent := method.missing():
        add = f"'compress-model[{method.extra}]'" if method.extra else "compress-model"
        raise CompressError(f"`method: {name}` needs {', '.join(absent)}: pip install {add}")
    return method


def restore_onnx(folder: Path, architecture: Architecture) -> nn.Module:
    """Read a network that was quantized as an ONNX file; `restore` of all such methods."""
    from compress.models.onnx_network import ONNX, OnnxClassifier, OnnxNetwork

    return (OnnxClassifier if architecture.library == "onnx" else OnnxNetwork).read(folder / ONNX)
