"""Capture a network as a graph for torchao's PT2E, and find the integer layers of a quantized graph."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from contextlib import ExitStack, redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.nn.modules.batchnorm import _BatchNorm

from compress.measurement.compute import unfused
from compress.models.attention import FourDimensionalAttention
from compress.utils.boundaries import boundary
from compress.utils.quiet import quiet

ops = torch.ops.aten
CONVOLUTIONS = (ops.conv1d.default, ops.conv2d.default, ops.conv3d.default, ops.convolution.default)
METHOD = "compress_method"  # in the `meta` of a quantized graph, where it was not torchao with the x86 quantizer
LINEARS = (ops.linear.default, ops.addmm.default, ops.mm.default)


def capture(model: nn.Module, example: Tensor, *, training: bool = False) -> GraphModule:
    """Export a copy of `model` to a graph for any batch size.

    In a graph for `training` batch norm takes its statistics from the batch; all else is in eval mode, as nothing can
    set it to eval mode later: dropout and stochastic depth would stay on for good.

    `example` is `[b, 3, r, r]` with b >= 2: from one image the exporter would infer a fixed batch of one.

    Raises:
        CompressError: `torch.export` cannot follow the model.
    """
    shapes = ({0: torch.export.Dim("batch")},)
    # A failed export prints the graph so far.
    with (
        ExitStack() as modes,
        boundary("torch.export", type(model).__name__),
        quiet(),
        redirect_stderr(StringIO()),
        torch.no_grad(),
        FourDimensionalAttention(),
    ):
        copied = copy.deepcopy(model).cpu()
        copied.train().eval()  # clears what networks such as LeViT cache in eval mode
        for module in copied.modules():
            module.training = training and isinstance(module, _BatchNorm)
        if training:
            modes.enter_context(unfused())  # the fused transformer layer is for inference
        graph = torch.export.export(copied, (example,), dynamic_shapes=shapes).module()
    assert isinstance(graph, GraphModule)
    _name_calls_apart(graph, _first_names(model))
    return graph


def converted(graph: GraphModule) -> bool:
    """Whether a graph has the quantize and dequantize nodes of PT2E's conversion."""
    return any(is_dequantize(node) for node in graph.graph.nodes)


def method_of(graph: nn.Module) -> str:
    """Return the method that quantized a graph."""
    return str(getattr(graph, "meta", {}).get(METHOD, "torchao"))


def quantized_convolutions(graph: GraphModule) -> tuple[int, int]:
    """Count the convolutions whose input and weight are both quantized, and all convolutions."""
    nodes = [node for node in graph.graph.nodes if node.target in CONVOLUTIONS]
    return sum(is_quantized(node) for node in nodes), len(nodes)


def layer_bits(graph: GraphModule) -> dict[str, tuple[int, int]]:
    """Find (weight bits, activation bits) of every quantized layer, by its name in the float model."""
    return {name: (8, 8) for node, name in layer_nodes(graph) if is_quantized(node)}


def layer_nodes(graph: GraphModule) -> list[tuple[Node, str]]:
    """List the nodes of convolutions and linears in order, with the names of their modules in the float model."""
    return [(node, _layer(node)) for node in graph.graph.nodes if node.target in CONVOLUTIONS + LINEARS]


def calls_of(graph: GraphModule, layers: Collection[str]) -> list[str]:
    """List the names that calls of some layers have in a graph; see `_name_calls_apart`."""
    stacks = (node.meta.get("nn_module_stack") or {} for node in graph.graph.nodes)
    names = dict.fromkeys(name for stack in stacks for name, _ in stack.values())
    return [name for name in names if name.partition("@")[0] in layers]


def _first_names(model: nn.Module) -> dict[str, str]:
    """Return the first name of each module, by its other ones: those of modules that several parents share."""
    first = {module: name for name, module in model.named_modules()}
    return {
        name: first[module] for name, module in model.named_modules(remove_duplicate=False) if first[module] != name
    }


def _name_calls_apart(graph: GraphModule, first_names: Mapping[str, str]) -> None:
    """Give each call of a module its own name: that of the module, and for further calls what tells them apart after @.

    The quantizer groups nodes by the name of their module. A ReLU that a block calls twice (torchvision's ResNets)
    looks like one operation with two outputs, which it refuses. The exporter distinguishes calls in the key only, or
    by the names that several parents have for a module (CoaT).
    """

    def named(key: str, name: str) -> str:
        if "@" in name:
            return name
        if name in first_names:
            return f"{first_names[name]}@{name}"
        return f"{name}@{key.rpartition('@')[2]}" if "@" in key else name

    for node in graph.graph.nodes:
        stack: dict[str, tuple[str, Any]] | None = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {key: (named(key, name), kind) for key, (name, kind) in stack.items()}


def is_dequantize(node: object) -> bool:
    """Whether an argument of a node is the output of a dequantize node."""
    return isinstance(node, Node) and node.op == "call_function" and "dequantize_per" in str(node.target)


def is_quantized(node: Node) -> bool:
    """Whether input and weight are dequantized just before; the weight of `mm` may be transposed in between."""
    tensors = [argument for argument in node.args if isinstance(argument, Node)]
    if node.target == ops.addmm.default:
        tensors = tensors[1:]  # the first is the bias
    return len(tensors) >= 2 and all(is_dequantize(_through_transpose(tensor)) for tensor in tensors[:2])


def _through_transpose(node: Node) -> Node:
    if node.target in (ops.t.default, ops.transpose.int, ops.permute.default):
        inner = node.args[0]
        assert isinstance(inner, Node)
        return inner
    return node


def _layer(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    names = [name for name, _ in stack.values()]
    return names[-1].partition("@")[0] if names else node.name
