"""Padding with minus infinity before a maximum, as an attribute of the maximum.

PyTorch code that pads as TensorFlow does ("same") pads the input of `max_pool2d` by itself. Quantizers that look for
the range of the padded tensor find an infinite one.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.models.onnx_rewrite import constants_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Array = np.ndarray[Any, Any]


def absorb_padding(proto: ModelProto) -> None:
    """Let each `MaxPool` do the padding with minus infinity that a `Pad` before it does; the answers stay the same.

    Paddings of other values, along channels or images, or of which something else reads the result stay.
    """
    from onnx import helper

    graph, values = proto.graph, constants_of(proto)
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in list(graph.node):
        pad = pads.get(node.input[0]) if node.op_type == "MaxPool" and node.input else None
        if pad is None or readers[pad.output[0]] != 1:
            continue
        sides = _sides(pad, values)
        options = {each.name: helper.get_attribute_value(each) for each in node.attribute}
        kernel, automatic = options["kernel_shape"], options.get("auto_pad", b"NOTSET") != b"NOTSET"
        if sides is None or len(kernel) != 2 or automatic or options.get("ceil_mode"):
            continue
        own = options.get("pads") or [0, 0, 0, 0]
        total = [side + given for side, given in zip(sides, own, strict=True)]
        if min(sides) < 0 or any(side >= length for side, length in zip(total, [*kernel, *kernel], strict=True)):
            continue  # ONNX pads by less than the kernel only
        kept = [each for each in node.attribute if each.name != "pads"]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute("pads", total)])
        node.input[0] = pad.input[0]
        graph.node.remove(pad)


def _sides(pad: NodeProto, values: dict[str, Array]) -> list[int] | None:
    """Return by how much a `Pad` pads top, left, bottom and right; None where it does something else."""
    mode = next((each.s for each in pad.attribute if each.name == "mode"), b"constant")
    given = [values.get(name) if name else None for name in pad.input]
    amounts, value, axes = (*given[1:], None, None, None)[:3]
    if mode != b"constant" or amounts is None or value is None or not np.all(np.isneginf(value)):
        return None
    if len(pad.input) > 3 and pad.input[3]:
        if axes is None or sorted(int(axis) % 4 for axis in axes.ravel()) != [2, 3]:
            return None
        order = np.argsort([int(axis) % 4 for axis in axes.ravel()])
        rows = amounts.reshape(2, 2)[:, order]
    elif amounts.size == 8 and not amounts.reshape(2, 4)[:, :2].any():
        rows = amounts.reshape(2, 4)[:, 2:]
    else:
        return None
    return [int(side) for side in rows.ravel()]
