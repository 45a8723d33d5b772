"""A quantized ONNX file in QDQ format beside the float file that it was made from, whose layers are compared.

Nodes are named alike in both. ONNX Runtime runs them without its optimisations, so that all tensors are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from compress.measurement.onnx_count import session_with
from compress.models.onnx_network import OnnxNetwork
from compress.models.onnx_rewrite import constants_of
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import FloatFile, Quantized
from compress.quantization.noise_sums import LayerErrors, LayerRun, QuantizedInput
from compress.quantization.onnx_layers import MOVES

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = np.ndarray[Any, Any]
MERGED = ("Relu", "Clip")
"""Operators that ONNX Runtime's quantizer leaves to the limits of the integers behind them."""


@dataclass(frozen=True)
class FileLayer(QuantizedInput):
    """A layer of a quantized file."""

    exact: NodeProto  # in the float file
    node: NodeProto  # in the quantized one
    source: str  # float tensor that is rounded to integers
    between: Sequence[NodeProto] = field(default=())  # operators that the layer needs behind it in float, in order


def file_pair(quantized: Quantized, config: QuantizationConfig) -> AbstractContextManager[FilePair | None]:
    """Pair a file with the float one; None where their tensors cannot be compared."""
    if quantized.source is None or config.equalize or not isinstance(quantized.network, OnnxNetwork):
        return nullcontext()
    return nullcontext(FilePair(quantized.source, quantized.network.file))


class FilePair:
    """The two files; see `compress.quantization.noise.NetworkPair`."""

    def __init__(self, source: FloatFile, file: bytes) -> None:
        import onnx

        self._exact, self._made = onnx.load_from_string(source.file), onnx.load_from_string(file)
        self.layers = _layers(self._exact, self._made, source.names)
        used = [name for each in self.layers for node in (each.exact, *each.between) for name in node.input[1:]]
        self._float_values = _Values(self._exact, used)
        self._values = _Values(self._made, [name for each in self.layers for name in each.node.input[1:]])
        floats = [name for each in self.layers for name in (each.exact.input[0], each.exact.output[0])]
        self._float_run = _Run(self._exact, floats)
        self._run = _Run(self._made, [each.node.output[0] for each in self.layers])
        self._single = [_SingleLayer(self._exact, each.exact) for each in self.layers]

    def run(self, images: Tensor, see: Callable[[int, LayerRun], None], errors: bool) -> tuple[Tensor, Tensor | None]:
        logits, exact = self._float_run(images)
        rounded_logits, rounded = self._run(images) if errors else (None, {})
        for number, layer in enumerate(self.layers):
            given, output = (exact[name] for name in (layer.exact.input[0], layer.exact.output[0]))
            found = None
            if errors:
                integers = layer.rounded(given)
                float_weights = [self._float_values[name] for name in layer.exact.input[1:]]
                weights = [self._values[name] for name in layer.node.input[1:]]
                alone, by_input = (self._single[number](integers, own) for own in (weights, float_weights))
                found = LayerErrors(alone, by_input, rounded[layer.node.output[0]])
            see(number, LayerRun(given, output, found, layer.exact.op_type == "Conv"))
        return logits, rounded_logits

    def logits(self, images: Tensor, in_float: int | None) -> Tensor:
        if in_float is None:
            return self._run(images)[0]
        return _Run(self._with_float(self.layers[in_float]), [])(images)[0]

    def _with_float(self, layer: FileLayer) -> ModelProto:
        """Return the quantized file with one layer in float: its input before the integers, and its weights."""
        import onnx
        from onnx import numpy_helper

        made = onnx.ModelProto()
        made.CopyFrom(self._made)
        place = next(i for i, node in enumerate(made.graph.node) if node.name == layer.node.name)
        node, given = made.graph.node[place], layer.source
        for position, name in enumerate(layer.exact.input[1:], 1):
            made.graph.initializer.append(numpy_helper.from_array(self._float_values[name].numpy(), f"{name}/float"))
            node.input[position] = f"{name}/float"
        known = {tensor.name for tensor in made.graph.initializer}
        limits = {name for other in layer.between for name in other.input[1:] if name in self._float_values} - known
        made.graph.initializer.extend(numpy_helper.from_array(self._float_values[n].numpy(), n) for n in sorted(limits))
        copies = []
        for other in layer.between:
            copy = onnx.NodeProto()
            copy.CopyFrom(other)
            copy.name, copy.input[0], copy.output[0] = f"{other.name}/float", given, f"{other.output[0]}/float"
            given = copy.output[0]
            copies.append(copy)
        node.input[0] = given
        for copy in reversed(copies):
            made.graph.node.insert(place, copy)
        return made


def _layers(exact: ModelProto, made: ModelProto, names: Mapping[str, str]) -> list[FileLayer]:
    """Find the layers whose input is rounded to integers of one scale, and whose weight is rounded too."""
    floats = {node.name: node for node in exact.graph.node}
    makers, float_makers = _makers(made), _makers(exact)
    constants = constants_of(made)
    found = []
    for node in made.graph.node:
        layer = floats[node.name] if node.name in names else None
        if layer is None or (layer.op_type, len(layer.input)) != (node.op_type, len(node.input)):
            continue
        maker, moves = _before_moves(node.input[0], makers)
        rounds = makers.get(maker.input[0]) if maker is not None and maker.op_type == "DequantizeLinear" else None
        weight = makers.get(node.input[1])
        if maker is None or rounds is None or rounds.op_type != "QuantizeLinear" or weight is None:
            continue
        scale = constants[maker.input[1]]
        zero = constants[maker.input[2]] if len(maker.input) > 2 and maker.input[2] else np.zeros((), np.uint8)
        if scale.size == 1:
            limits = np.iinfo(zero.dtype)
            numbers = float(scale.item()), int(zero.item()), int(limits.min), int(limits.max)
            source = rounds.input[0]
            activation, _ = _before_moves(layer.input[0], float_makers)
            before = makers.get(source)
            between = moves
            if activation and activation.op_type in MERGED and (not before or before.op_type != activation.op_type):
                between = [activation, *moves]
            found.append(FileLayer(names[node.name], *numbers, layer, node, source, tuple(between)))
    return found


def _makers(proto: ModelProto) -> dict[str, NodeProto]:
    return {output: node for node in proto.graph.node for output in node.output}


def _before_moves(name: str, makers: Mapping[str, NodeProto]) -> tuple[NodeProto | None, list[NodeProto]]:
    """Return the node that computes a tensor's values, and the nodes that only move them from there, in order."""
    moves: list[NodeProto] = []
    maker = makers.get(name)
    while maker is not None and maker.op_type in MOVES:
        moves.insert(0, maker)
        maker = makers.get(maker.input[0])
    return maker, moves


class _Values(dict[str, Tensor]):
    """Values of tensors of a file that do not depend on the images, by name; of the others there are none."""

    def __init__(self, proto: ModelProto, names: Sequence[str]) -> None:
        constants = constants_of(proto)
        known, computed = set(constants), []
        for node in proto.graph.node:
            if node.input and known.issuperset(filter(None, node.input)):
                known |= set(node.output)
                computed += [name for name in node.output if name in names]
        values = session_with(proto, computed).run(computed, _zeros(proto)) if computed else []
        found = {name: constants[name] for name in names if name in constants}
        found |= dict(zip(computed, values, strict=True))
        super().__init__({name: torch.from_numpy(np.array(value)) for name, value in found.items()})


class _Run:
    """Runs a file on images, and returns its logits and the values of some tensors."""

    def __init__(self, proto: ModelProto, names: Sequence[str]) -> None:
        self.names = list(dict.fromkeys(names))
        self.input, self.output = proto.graph.input[0].name, proto.graph.output[0].name
        self.session = session_with(proto, [name for name in self.names if name != self.input])

    def __call__(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        asked = [self.output, *(name for name in self.names if name != self.input)]
        values = self.session.run(asked, {self.input: np.ascontiguousarray(images.numpy())})
        logits, *rest = (torch.from_numpy(value) for value in values)
        return logits, {self.input: images, **dict(zip(asked[1:], rest, strict=True))}


class _SingleLayer:
    """Runs one node on any input, with any weights."""

    def __init__(self, proto: ModelProto, node: NodeProto) -> None:
        from onnx import TensorProto, helper

        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (*node.input, *node.output)]
        graph = helper.make_graph([node], "layer", ends[:-1], ends[-1:])
        self.names = list(node.input)
        single = helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
        self.session = session_with(single, [])

    def __call__(self, given: Tensor, weights: Sequence[Tensor]) -> Tensor:
        feeds = {name: value.numpy() for name, value in zip(self.names, (given, *weights), strict=True)}
        return torch.from_numpy(self.session.run(None, feeds)[0])


def _zeros(proto: ModelProto) -> dict[str, Array]:
    given = proto.graph.input[0]
    sides = [side.dim_value or 1 for side in given.type.tensor_type.shape.dim]
    return {given.name: np.zeros(sides, np.float32)}
