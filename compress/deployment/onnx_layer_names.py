"""Which convolutions and linears of an ONNX file the layers are that ONNX Runtime executes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compress.deployment.onnx_file import WEIGHT
from compress.utils.errors import CompressError, first_line

if TYPE_CHECKING:
    from compress.deployment.layers import LayerRow

FOLLOWING = (
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Mul", "Add", "BatchNormalization"),
    *("QuantizeLinear", "DequantizeLinear"),
)
"""Operators that are fused into the layer before them, whose name is then that of their output."""

_ADDED = re.compile(r"(_token_\d+|_nchwc|_nhwc)+$")


class FileLayer(NamedTuple):
    """A convolution or linear of a file: the name of its node, and how many weights it has, biases aside."""

    name: str
    weights: int


def file_layers(path: Path) -> dict[str, FileLayer]:
    """Return the convolutions and linears of an ONNX file, by the names that layers made from them may have.

    These are the names of their nodes and those of their outputs, before and after what is fused into them.

    Raises:
        CompressError: the file cannot be read.
    """
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf raises types of its own
        raise CompressError(f"cannot read the ONNX file {path}: {first_line(error)}") from error
    weights = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer}
    found: dict[str, FileLayer] = {}
    made: dict[str, tuple[int, FileLayer]] = {}  # by tensor: the layer that it comes from, and its place in the file
    for index, node in enumerate(graph.node):
        place = WEIGHT.get(node.op_type)
        if place is not None and node.input[place] in weights:
            layer = FileLayer(node.name or node.output[0], weights[node.input[place]])
            found[layer.name], made[node.output[0]] = layer, (index, layer)
        elif node.input and set(node.input) <= {*weights, ""}:
            weights |= dict.fromkeys(node.output, weights.get(node.input[0], 0))
        elif node.op_type in FOLLOWING and (before := [made[name] for name in node.input if name in made]):
            made[node.output[0]] = max(before)
    return {**{name: layer for name, (_, layer) in made.items()}, **found}


def layer_of(name: str, layers: dict[str, FileLayer]) -> FileLayer | None:
    """Find the layer of the file that an executed one was made from, by its name; None if it is not there."""
    return layers.get(_ADDED.sub("", name))


def with_sources(rows: Iterable[LayerRow], path: Path) -> None:
    """Fill `source` and `weights` of the layers of an ONNX file in place, where its names show them."""
    layers = file_layers(path)
    for row in rows:
        found = layer_of(row["name"], layers)
        if found is not None and row["kind"] in ("convolution", "linear"):
            row["source"], row["weights"] = found
