"""Fold a temperature into the last layer of a network: its logits are divided, its predictions stay.

Of a quantized layer the scales are divided, of its integer weights and of what follows, so that every integer stays.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compress.models.onnx_network import OnnxNetwork
from compress.quantization.capture import CONVOLUTIONS, LINEARS, converted
from compress.utils.errors import CompressError

TOLERANCE = 1e-3  # of the largest logit, by which those of the folded network may differ from the divided ones
_SHAPES = ("view", "reshape", "flatten", "squeeze", "permute", "transpose", "aten.t.", "clone", "contiguous")


def _refuse_file(model: nn.Module) -> None:
    if isinstance(model, OnnxNetwork):
        raise CompressError("temperature_scaling needs a network in PyTorch, and this is an ONNX file; leave it out")


def require_foldable(model: nn.Module, example: Tensor) -> None:
    """Raise what `divide_logits` raises of a network that does not end in a layer to divide."""
    _refuse_file(model)
    with torch.no_grad():
        if isinstance(model, GraphModule) and converted(model):
            _divide_graph(deepcopy(model), 1.0)
        else:
            _last_layer(model, example, type(model).__name__)


def divide_logits(model: nn.Module, temperature: float, example: Tensor) -> None:
    """Divide the logits of a network by a temperature, in the weight and bias of its last layer, in place.

    Args:
        model: A float network, or one that PT2E quantized; in eval mode.
        temperature: What to divide by.
        example: Two or more images `[b, 3, r, r]`, normalised.

    Raises:
        CompressError: the network does not end in a linear layer or convolution, or is an ONNX file.
    """
    _refuse_file(model)
    name = type(model).__name__
    with torch.no_grad():
        before = model(example)
        if isinstance(model, GraphModule) and converted(model):
            _divide_graph(model, temperature)
        else:
            _divide_module(_last_layer(model, example, name), temperature)
        after = model(example)
    allowed = TOLERANCE * float(before.abs().max()) / temperature
    if not torch.allclose(after, before / temperature, rtol=0, atol=allowed):
        raise CompressError(f"the temperature could not be folded into {name}; leave temperature_scaling out")


def _last_layer(model: nn.Module, example: Tensor, name: str) -> nn.Module:
    """Find the linear layer or convolution whose output is the network's, whatever its shape."""
    outputs: list[tuple[nn.Module, Tensor]] = []
    layers = [each for each in model.modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    hooks = [each.register_forward_hook(lambda layer, _, output: outputs.append((layer, output))) for each in layers]
    try:
        logits = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    for layer, output in reversed(outputs):
        if output.numel() == logits.numel() and torch.equal(output.reshape(logits.shape), logits):
            return layer
    raise CompressError(f"temperature_scaling needs a network that ends in a linear layer, and {name} does not")


def _divide_module(layer: nn.Module, temperature: float) -> None:
    assert isinstance(layer, nn.Linear | nn.Conv2d)
    layer.weight.div_(temperature)
    if layer.bias is not None:
        layer.bias.div_(temperature)


def _divide_graph(graph: GraphModule, temperature: float) -> None:
    """Divide the scales of the last layer's weight, its bias, and the scales of what quantizes its output."""
    (output,) = (node for node in graph.graph.nodes if node.op == "output")
    node = output.args[0]
    while isinstance(node, tuple | list):
        (node,) = node
    while isinstance(node, Node) and node.target not in CONVOLUTIONS + LINEARS:
        text = str(node.target)
        if "quantize_per_tensor" in text:
            _divide_scale(node, temperature)
        elif not any(shape in text for shape in _SHAPES):
            raise CompressError(f"temperature_scaling needs a network that ends in a linear layer, not in {text}")
        node = node.args[0]
    assert isinstance(node, Node)
    for operand in _parameters(node):
        _divide_operand(graph, operand, temperature)
    graph.recompile()


def _parameters(layer: Node) -> list[Node]:
    """Return weight and bias of a layer: all that it reads but its input."""
    operands = [each for each in layer.args if isinstance(each, Node)]
    first = 1 if layer.target == torch.ops.aten.addmm.default else 0  # the bias comes first there
    return [each for place, each in enumerate(operands) if place != first]


def _divide_operand(graph: GraphModule, node: Node, temperature: float) -> None:
    while any(shape in str(node.target) for shape in _SHAPES) and node.op == "call_function":
        node = node.args[0]  # type: ignore[assignment]
    text = str(node.target)
    if node.op == "get_attr":
        _attribute(graph, node).div_(temperature)
    elif "dequantize_per_channel" in text:
        scales: Any = node.args[1]
        _attribute(graph, scales).div_(temperature)
    elif "dequantize_per_tensor" in text:
        _divide_scale(node, temperature)
    else:
        raise CompressError(f"temperature_scaling cannot be folded into a weight that {text} makes; leave it out")


def _divide_scale(node: Node, temperature: float) -> None:
    scale: Any = node.args[1]
    node.args = (node.args[0], scale / temperature, *node.args[2:])


def _attribute(graph: GraphModule, node: Node) -> Tensor:
    owner, _, key = str(node.target).rpartition(".")
    value = getattr(graph.get_submodule(owner), key)
    assert isinstance(value, Tensor)
    return value
