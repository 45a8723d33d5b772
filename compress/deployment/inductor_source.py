"""What the C++ in a package of Inductor states: its calls, and the types and shapes of their tensors."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from compress.deployment.coverage import Coverage, products

# Calls that multiply, with their arguments, and the types and shapes of weights and results.
CALL = re.compile(r"\baoti_torch_\w*?_(qconv|convolution|qlinear)\w*\((.*)\)\);")
BUFFER = re.compile(r"\b(buf\d+)(?:_handle)?\b")
NAME_OF = re.compile(r"constants_info_\[(\d+)\]\.name = \"(\w+)\"")
TYPE = re.compile(r"constants_info_\[(\d+)\]\.dtype = \w*?_dtype_(\w+);")
SHAPE = re.compile(r"constants_info_\[(\d+)\]\.shape = \{([^}]*)\}")
OUTPUT = re.compile(r"assert_size_stride\((buf\d+), \{([^}]*)\}")
WORD = re.compile(r"\b\w+\b")
HALVES = {"float16": "fp16", "bfloat16": "bf16"}
"""Half precisions by the names of their types."""


def count_calls(text: str, total: int | None) -> Coverage:
    """Count what a package's C++ executes.

    Args:
        text: The C++ of the network.
        total: MACs of convolutions and linears for one image; None where they are not known.
    """
    shapes = dict(SHAPE.findall(text))
    weights = {name: _shape(shapes[number]) for number, name in NAME_OF.findall(text)}
    outputs = {name: _shape(sizes) for name, sizes in OUTPUT.findall(text)}
    calls = CALL.findall(text)
    convolutions = [kind for kind, _ in calls if "conv" in kind]
    macs = [_call_macs(kind, arguments, weights, outputs) for kind, arguments in calls if kind.startswith("q")]
    integer = sum(part or 0 for part in macs) if all(macs) else None
    counted = Coverage(convolutions.count("qconv"), len(convolutions), integer, total)
    # Networks in half precision are so throughout, from the images to the logits.
    types = {HALVES.get(kind) for number, kind in TYPE.findall(text) if len(_shape(shapes[number])) > 1}
    if len(types) != 1 or not (half := types.pop()):
        return counted
    return Coverage(0, counted.convs, 0, total, total, half)


def _call_macs(
    kind: str, arguments: str, weights: Mapping[str, list[int]], outputs: Mapping[str, list[int]]
) -> int | None:
    """MACs of a call of a network for any batch size, for one image; None where the C++ does not state the shapes."""
    weight = next((weights[name] for name in WORD.findall(arguments) if len(weights.get(name, ())) > 1), None)
    *others, result = BUFFER.findall(arguments)
    if result not in outputs and others and '"sum"' in arguments:  # it is added to the buffer before
        result = others[-1]
    output = outputs.get(result)
    if not weight or not output:
        return None
    # PyTorch passes the tokens of all images to a linear layer as one dimension, `[197 * batch, channels]`.
    return products(output, weight, output[1] if kind == "qconv" else output[-1])


def _shape(text: str) -> list[int]:
    """Parse a shape in the C++; a factor that is not fixed, the batch, counts as 1."""
    sizes = [size.split("*") for size in text.replace("L", "").split(", ")]
    return [math.prod(int(factor) for factor in factors if factor.isdecimal()) for factors in sizes]
