"""Changes of ONNX graphs that leave what they compute as it is: names, layout, batch, precision, outputs."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.measurement.onnx_count import STANDARD

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

    from compress.measurement.onnx_count import Shape

DOMAINS = (*STANDARD, "com.microsoft")  # of the operators that ONNX Runtime has
LEAST = 1e-30  # probability, whose logarithm is finite
THROUGH = ("Identity", "Cast")  # operators that leave values as they are


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those inside of its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs(attribute.g)


def constants_of(proto: ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """Return the values that a graph states, as initialisers or `Constant` nodes, by name."""
    from onnx.numpy_helper import to_array

    stored = {tensor.name: to_array(tensor) for tensor in proto.graph.initializer}
    stated = [(node, node.attribute[0]) for node in proto.graph.node if node.op_type == "Constant"]
    return stored | {node.output[0]: to_array(each.t) for node, each in stated if each.name == "value"}


def foreign_operators(proto: ModelProto) -> list[str]:
    """List the operators that neither ONNX, nor ONNX Runtime, nor the file itself defines."""
    own = {(function.domain, function.name) for function in proto.functions}
    nodes = [node for graph in graphs(proto.graph) for node in graph.node]
    foreign = [n for n in nodes if n.domain not in DOMAINS and (n.domain, n.op_type) not in own]
    return sorted({f"{node.domain}.{node.op_type}" for node in foreign})


def rename(graph: GraphProto, old: str, new: str) -> None:
    """Rename a tensor; another one of the new name gets another name first."""
    names = {name for each in graphs(graph) for node in each.node for name in (*node.input, *node.output)}
    for before, after in ((new, _free(names, new)), (old, new)) if new in names and old != new else ((old, new),):
        for each in graphs(graph):
            for node in each.node:
                for field in (node.input, node.output):
                    field[:] = [after if name == before else name for name in field]
            for value in (*each.input, *each.output, *each.initializer):
                value.name = after if value.name == before else value.name


def _free(names: set[str], name: str) -> str:
    return next(f"{name}_{number}" for number in range(len(names) + 1) if f"{name}_{number}" not in names)


def widen(proto: ModelProto) -> bool:
    """Turn 16-bit floats into 32 bits, and return whether there were any."""
    from onnx import TensorProto, numpy_helper

    found = False
    for graph in graphs(proto.graph):
        constants = [attribute.t for node in graph.node for attribute in node.attribute if attribute.HasField("t")]
        for tensor in (*graph.initializer, *constants):
            if tensor.data_type == TensorProto.FLOAT16:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name))
                found = True
        for value in (*graph.input, *graph.output):
            if value.type.tensor_type.elem_type == TensorProto.FLOAT16:
                value.type.tensor_type.elem_type, found = TensorProto.FLOAT, True
        for node in graph.node:
            for attribute in node.attribute if node.op_type == "Cast" else ():
                attribute.i = TensorProto.FLOAT if attribute.i == TensorProto.FLOAT16 else attribute.i
    if found:
        del proto.graph.value_info[:]
    return found


def set_input(proto: ModelProto, name: str, side: int, *, channels_last: bool) -> None:
    """Make the input `name` float32 `[batch, 3, side, side]`, whatever layout the graph itself takes."""
    from onnx import TensorProto, helper

    graph, inner = proto.graph, proto.graph.input[0].name
    if channels_last:
        inner = _renamed_from(graph, inner, name)
        graph.node.insert(0, helper.make_node("Transpose", [name], [inner], f"{name}_layout", perm=[0, 2, 3, 1]))
    else:
        rename(graph, inner, name)
    del graph.input[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, side, side]))


def _renamed_from(graph: GraphProto, inner: str, name: str) -> str:
    """Free a name that a tensor has itself; returns the tensor's name."""
    if inner != name:
        return inner
    other = _free({each for node in graph.node for each in (*node.input, *node.output)} | {name}, name)
    rename(graph, name, other)
    return other


def with_output(file: bytes, name: str) -> bytes:
    """Return an ONNX file with another name of its only output."""
    import onnx

    proto = onnx.load_from_string(file)
    (output,) = proto.graph.output
    rename(proto.graph, output.name, name)
    return bytes(proto.SerializeToString(deterministic=True))


def set_output(proto: ModelProto, inner: str, name: str, outputs: int, *, flatten: bool) -> None:
    """Make the tensor `inner` the only output, `name` float32 `[batch, outputs]`; nodes that nothing needs go."""
    from onnx import TensorProto, helper

    graph = proto.graph
    del graph.output[:]
    if flatten:
        inner = _renamed_from(graph, inner, name)
        graph.node.append(helper.make_node("Flatten", [inner], [name], f"{name}_flatten", axis=1))
    elif inner == graph.input[0].name:
        graph.node.append(helper.make_node("Identity", [inner], [name], name))
    else:
        rename(graph, inner, name)
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", outputs]))
    drop_unused(graph)


def take_logarithm(proto: ModelProto, name: str) -> None:
    """Make the output `name` the logarithm of what it was, of at least `LEAST`."""
    from onnx import helper, numpy_helper

    graph = proto.graph
    inner = _renamed_from(graph, name, name)
    graph.output[0].name = name
    graph.initializer.append(numpy_helper.from_array(np.float32(LEAST), f"{name}_least"))
    graph.node.append(helper.make_node("Max", [inner, f"{name}_least"], [f"{name}_positive"], f"{name}_positive"))
    graph.node.append(helper.make_node("Log", [f"{name}_positive"], [name], f"{name}_log"))


def drop_unused(graph: GraphProto) -> None:
    """Remove nodes and stored tensors that no output needs."""
    needed = {output.name for output in graph.output}
    for node in reversed(graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            inside = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
            needed |= {name for top in inside for each in graphs(top) for inner in each.node for name in inner.input}
    nodes = [node for node in graph.node if needed & set(node.output)]
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)


def before_softmax(graph: GraphProto, name: str) -> str | None:
    """Return the tensor that a softmax over classes makes the tensor `name` of; None if there is no such softmax."""
    node = _producer(graph, name)
    while node is not None and node.op_type in THROUGH:
        node = _producer(graph, node.input[0])
    if node is None or node.op_type != "Softmax":
        return None
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), -1)
    return str(node.input[0]) if axis in (1, -1) else None


def _producer(graph: GraphProto, name: str) -> NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def select_outputs(proto: ModelProto, rows: Sequence[int]) -> None:
    """Put the outputs of a classifier into another order, or leave some out."""
    from onnx import helper, numpy_helper

    graph = proto.graph
    name = graph.output[0].name
    inner = _free({tensor for node in graph.node for tensor in node.output}, name)
    rename(graph, name, inner)
    graph.initializer.append(numpy_helper.from_array(np.array(rows, np.int64), f"{name}_rows"))
    graph.node.append(helper.make_node("Gather", [inner, f"{name}_rows"], [name], f"{name}_order", axis=1))
    graph.output[0].name = name
    graph.output[0].type.tensor_type.shape.dim[1].dim_value = len(rows)


def free_batch(proto: ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Free a graph that was exported for a fixed batch from it: in its reshapes, and in what is joined to each image.

    Reshapes are taken to have the batch in their first dimension. Where they have not, as in Swin's windows after a
    shift, the result computes something else: compare it.

    Args:
        proto: The file; its constants are stored tensors.
        shapes: Shapes of the tensors of `batch_dependent`, for the batch that the graph was exported for.
    """
    from onnx import numpy_helper

    graph = proto.graph
    nodes: list[NodeProto] = []
    constant = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.input and constant.issuperset(node.input):
            constant.update(node.output)
        elif node.op_type == "Reshape" and node.input[1] in constant:
            after = [-1, *shapes[node.output[0]][1:]]
            node.input[1] = f"{node.output[0]}_shape"
            graph.initializer.append(numpy_helper.from_array(np.array(after, np.int64), node.input[1]))
        elif node.op_type == "Concat" and next(a.i for a in node.attribute if a.name == "axis") != 0:
            joined = {name: len(shapes[name]) for name in node.input if name in constant}
            nodes += _repeated(graph, node, joined) if joined else []
        nodes.append(node)
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def batch_dependent(graph: GraphProto) -> list[str]:
    """List the tensors whose shapes `free_batch` needs."""
    found = [node for node in graph.node if node.op_type in ("Reshape", "Concat")]
    return [name for node in found for name in (*node.input, *node.output)]


def _repeated(graph: GraphProto, concat: NodeProto, ranks: Mapping[str, int]) -> list[NodeProto]:
    """Return the nodes that repeat constants, such as class tokens, as often as a `Concat` joins them to an image."""
    from onnx import helper, numpy_helper

    stem = concat.output[0]
    images = next(name for name in concat.input if name not in ranks)
    graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), f"{stem}_zero"))
    made = [
        helper.make_node("Shape", [images], [f"{stem}_sides"], f"{stem}_sides"),
        helper.make_node("Gather", [f"{stem}_sides", f"{stem}_zero"], [f"{stem}_batch"], f"{stem}_batch"),
    ]
    for place, name in enumerate(concat.input):
        if name in ranks:
            ones, size, out = (f"{stem}_{place}_{part}" for part in ("ones", "size", "repeated"))
            graph.initializer.append(numpy_helper.from_array(np.ones(ranks[name] - 1, np.int64), ones))
            made.append(helper.make_node("Concat", [f"{stem}_batch", ones], [size], size, axis=0))
            made.append(helper.make_node("Expand", [name, size], [out], out))
            concat.input[place] = out
    return made


def name_nodes(proto: ModelProto) -> None:
    """Give every node a name of its own, by which quantizers leave it out."""
    taken = set[str]()
    for node in proto.graph.node:
        if not node.name or node.name in taken:
            node.name = next(f"{node.op_type}_{i}" for i in range(10**6) if f"{node.op_type}_{i}" not in taken)
        taken.add(node.name)


def stated_names(proto: ModelProto) -> tuple[str, ...] | None:
    """Return the class names in the file's metadata, in the form that Ultralytics writes: `{0: 'cat', 1: 'dog'}`."""
    text = next((entry.value for entry in proto.metadata_props if entry.key == "names"), "")
    try:
        names = ast.literal_eval(text) if text else None
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if isinstance(names, dict) and not all(str(key).isdecimal() for key in names):
        return None
    values = [names[key] for key in sorted(names, key=int)] if isinstance(names, dict) else names
    return tuple(values) if isinstance(values, list) and all(isinstance(name, str) for name in values) else None
