"""A quantized network that is an ONNX file: integer tensors around float operators (QDQ), made of the float network's.

The exporter names the nodes of both files alike, by which a node is known to be a layer of the float model.
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

ONNX = "model.onnx"
"""File of a stored network of this kind, beside its `architecture.json`."""
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
        """The network of a file.

        Raises:
            CompressError: it cannot be read.
        """
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
    """Names of the float model's convolutions and linears by the names of the nodes that compute them.

    A node is known by its weight: by the name, which the exporter takes over, or by the values, which it transposes for
    linears of more than two dimensions.
    """
    from onnx.numpy_helper import to_array

    weights = {f"{name}.weight": name for name, module in model.named_modules() if _is_layer(module)}
    linears = {
        _digest(module.weight.detach().numpy().T): name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    found = {}
    for node in proto.graph.node:
        if node.op_type in LAYERS and len(node.input) > 1 and node.input[1] in tensors:
            tensor = tensors[node.input[1]]
            name = weights.get(tensor.name) or linears.get(_digest(to_array(tensor)))
            if name:
                found[node.name] = name
    return found


def nodes_of(names: Mapping[str, str], keep: Iterable[str]) -> list[str]:
    """Names of the nodes that compute the layers `keep`; `names` are `layers_of`'s."""
    wanted = set(keep)
    return [node for node, layer in names.items() if layer in wanted]


def layer_bits(proto: ModelProto, names: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """(weight bits, activation bits) of every quantized layer, as the file has them.

    Data and weight both come from 8-bit integers, or the operator itself has a weight of 4 bits and says to how many it
    rounds its data.

    Args:
        proto: The quantized file.
        names: Layers by node, of the float file.
    """
    integer, found = _integer(proto), {}
    for node in proto.graph.node:
        if node.name in names and node.op_type == OPERATOR:
            found[names[node.name]] = operator_bits(node)
        elif node.name in names and integer.issuperset(node.input[:2]):
            found[names[node.name]] = (8, 8)
    return found


def quantized_convolutions(proto: ModelProto) -> tuple[int, int]:
    """Convolutions whose data and weight both come from integers, and all convolutions."""
    nodes = [node for node in proto.graph.node if node.op_type == "Conv"]
    integer = _integer(proto)
    return sum(integer.issuperset(node.input[:2]) for node in nodes), len(nodes)


def _integer(proto: ModelProto) -> set[str]:
    """Tensors that are integers times a scale: dequantized ones, and what only moves or chooses their values."""
    found: set[str] = set()
    for node in proto.graph.node:  # each comes after what it reads
        if node.op_type == "DequantizeLinear" or (node.op_type in MOVES and node.input[0] in found):
            found |= set(node.output)
    return found


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
