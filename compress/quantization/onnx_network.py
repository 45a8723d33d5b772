"""A quantized network as an ONNX file in QDQ format: integer tensors around float operators.

The exporter names the nodes of the float and the quantized file alike, by which nodes are matched to layers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.quantization.four_bits import OPERATOR, operator_bits
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from onnx import ModelProto

ONNX = "model.onnx"  # file of a stored network of this kind, beside its `architecture.json`
LAYERS = ("Conv", "Gemm", "MatMul")
MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split")


class OnnxNetwork(nn.Module):
    """Runs an ONNX file in ONNX Runtime on the CPU: images float32 `[b, 3, r, r]` to logits float32 `[b, classes]`."""

    def __init__(self, file: bytes) -> None:
        super().__init__()
        self.file = file
        self._session: Any = None

    @classmethod
    def read(cls, path: Path) -> OnnxNetwork:
        """Read a file; a `CompressError` if it cannot be read."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise CompressError(f"{path} cannot be read: {error.strerror}") from error

    def forward(self, images: Tensor) -> Tensor:
        if self._session is None:
            self._session = _session(self.file)
        pixels = np.ascontiguousarray(images.detach().numpy())
        return torch.from_numpy(self._session.run(None, {self._session.get_inputs()[0].name: pixels})[0])


def layers_of(proto: ModelProto, model: nn.Module) -> dict[str, str]:
    """Match nodes to the convolutions and linears of the float model; returns names of layers by names of nodes.

    Nodes are matched by the name of their weight, which the exporter keeps, or by its values, which it transposes for
    linears with more than two dimensions.
    """
    from onnx.numpy_helper import to_array

    weights = {f"{name}.weight": name for name, module in model.named_modules() if _is_layer(module)}
    linears = {
        _digest(module.weight.detach().numpy().T): name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    layers = {}
    for node in proto.graph.node:
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in tensors:
            tensor = tensors[node.input[1]]
            name = weights.get(tensor.name) or linears.get(_digest(to_array(tensor)))
            if name:
                layers[node.name] = name
    return layers


def nodes_of(names: Mapping[str, str], keep: Iterable[str]) -> list[str]:
    """Names of the nodes of the layers `keep`; `names` is the result of `layers_of`."""
    wanted = set(keep)
    return [node for node, layer in names.items() if layer in wanted]


def layer_bits(proto: ModelProto, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Find (weight bits, activation bits) of every quantized layer.

    Input and weight are both dequantized from 8-bit integers, or the operator itself has 4-bit weights and states the
    bits of its activations. `names` is the result of `layers_of` on the float file.
    """
    integer, bits = _integer(proto), {}
    for node in proto.graph.node:
        if node.name in names and node.op_type == OPERATOR:
            bits[names[node.name]] = operator_bits(node)
        elif node.name in names and integer.issuperset(node.input[:2]):
            bits[names[node.name]] = (8, 8)
    return bits


def quantized_convolutions(proto: ModelProto) -> tuple[int, int]:
    """Count the convolutions whose input and weight are both dequantized, and all convolutions."""
    nodes = [node for node in proto.graph.node if node.op_type == "Conv"]
    integer = _integer(proto)
    return sum(integer.issuperset(node.input[:2]) for node in nodes), len(nodes)


def _integer(proto: ModelProto) -> set[str]:
    """Names of dequantized tensors, also after operators that only move or select their values."""
    integer: set[str] = set()
    for node in proto.graph.node:  # in topological order
        if node.op_type == "DequantizeLinear" or (node.op_type in MOVES and node.input[0] in integer):
            integer |= set(node.output)
    return integer


def _is_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def _digest(values: np.ndarray[Any, Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values, np.float32).tobytes() + str(values.shape).encode()).hexdigest()


def _session(file: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot read the quantized network: {first_line(error)}") from error
