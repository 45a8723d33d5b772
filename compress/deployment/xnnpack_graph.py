"""Graphs for XNNPACK in an ExecuTorch program: which of their layers compute in integer.

A program holds each graph as a block of its own (`runtime_schema.fbs` of ExecuTorch's XNNPACK backend): a header with
the place of a flatbuffer, in which every value has its type and shape.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from compress.deployment.coverage import products

MAGIC = b"XH00"  # of a header, 4 bytes after its start
OFFSET, SIZE = slice(10, 14), slice(14, 18)  # in a header: place and length of the flatbuffer
LINEAR = "XNNFullyConnected"
LAYERS = ("XNNConv2d", "XNNDepthwiseConv2d", "XNNConvTranspose2d", LINEAR)
INTEGER = ("xnn_datatype_qint8", "xnn_datatype_qcint8", "xnn_datatype_quint8")


def integer_layers(program: bytes) -> Iterator[tuple[str, int]]:
    """Yield kind and MACs of every layer whose input, weights and output are 8-bit integers."""
    place = program.find(MAGIC)
    while place >= 0:
        header = program[place - 4 :]
        start = int.from_bytes(header[OFFSET], "little")
        yield from _integer(_decoded(header[start : start + int.from_bytes(header[SIZE], "little")]))
        place = program.find(MAGIC, place + len(MAGIC))


def _integer(graph: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    values = {}
    for value in graph["xvalues"]:
        union = value["xvalue_union"]
        tensor = union.get("tensor_value", union)  # a quantized value has its tensor inside
        values[tensor["id_out"]] = tensor
    for node in graph["xnodes"]:
        kind, layer = node["xnode_union_type"].removeprefix("_"), node["xnode_union"]
        if kind not in LAYERS:
            continue
        taken, weight, made = (values[layer[key]] for key in ("input1_id", "filter_id", "output_id"))
        if all(tensor["datatype"] in INTEGER for tensor in (taken, weight, made)):
            channels = made["dims"][-1]
            # All dimensions: a program is for one image, and in attention the first is not always the batch.
            yield kind, products(made["dims"], weight["dims"], channels)


def _decoded(flatbuffer: bytes) -> dict[str, Any]:
    """Decode a graph by ExecuTorch's own schema."""
    from executorch.backends.xnnpack import serialization
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    schema = Path(next(iter(serialization.__path__))) / "runtime_schema.fbs"
    with tempfile.TemporaryDirectory() as folder:
        binary = Path(folder) / "graph.bin"
        binary.write_bytes(flatbuffer)
        _flatc_decompile(folder, str(schema), str(binary), ["--raw-binary"])
        text = binary.with_suffix(".json").read_text()
    graph: dict[str, Any] = json.loads(re.sub(r":\s*([+-]?inf|nan)\b", ": null", text))
    return graph
