"""A quantized PT2E graph beside the same graph in float, whose layers are compared.

The float graph is captured and folded as the quantized one, without observers, so that both have the same layers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from compress.measurement.device import on_device
from compress.quantization.capture import CONVOLUTIONS, capture, is_dequantize, is_quantized, layer_nodes, ops
from compress.quantization.config import QuantizationConfig
from compress.quantization.noise_sums import LayerErrors, LayerRun, QuantizedInput
from compress.quantization.pt2e import prepare
from compress.utils.quiet import quiet


@dataclass(frozen=True)
class GraphLayer(QuantizedInput):
    """A layer of a quantized graph."""

    node: Node  # its convolution or linear in the quantized graph
    quantize: Node  # node that makes its input integer

    @property
    def operands(self) -> tuple[int, int]:
        """Positions of input and weight among the arguments; those of `addmm` start with the bias."""
        return (1, 2) if self.node.target == ops.addmm.default else (0, 1)

    def call(self, arguments: Sequence[Any], given: Tensor, weight: Tensor) -> Tensor:
        """Compute the layer with other input and weight."""
        own, (place, weight_place) = list(arguments), self.operands
        own[place], own[weight_place] = given, weight
        assert callable(self.node.target)
        output: Tensor = self.node.target(*own)
        return output


class GraphPair:
    """The two graphs; see `compress.quantization.noise.NetworkPair`."""

    def __init__(self, exact: GraphModule, graph: GraphModule) -> None:
        found, nodes = quantized_layers(graph), [node for node, _ in layer_nodes(exact)]
        self.layers = [layer for _, layer in found]
        self._exact, self._graph = exact, graph
        self._nodes = {nodes[position]: number for number, (position, _) in enumerate(found)}
        self._weights: dict[int, Tensor] = {}  # of the float graph, by number of the layer

    def run(self, images: Tensor, see: Callable[[int, LayerRun], None], errors: bool) -> tuple[Tensor, Tensor | None]:
        rounded_weights: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}

        def keep(number: int, arguments: tuple[Any, ...], output: Tensor) -> None:
            rounded_weights[number] = arguments[self.layers[number].operands[1]]
            outputs[number] = output.clone()  # the next operator may work in place

        def compare(number: int, arguments: tuple[Any, ...], output: Tensor) -> None:
            layer, found = self.layers[number], None
            given, weight = (arguments[place] for place in layer.operands)
            self._weights[number] = weight
            if errors:
                rounded = layer.rounded(given)
                alone = layer.call(arguments, rounded, rounded_weights[number])
                found = LayerErrors(alone, layer.call(arguments, rounded, weight), outputs.pop(number))
            see(number, LayerRun(given, output, found, layer.node.target in CONVOLUTIONS))

        logits = None
        if errors:
            numbers = {layer.node: number for number, layer in enumerate(self.layers)}
            logits = _Watched(self._graph, numbers, keep).run(images)
        return _Watched(self._exact, self._nodes, compare).run(images), logits

    def logits(self, images: Tensor, in_float: int | None) -> Tensor:
        if in_float is None:
            return Interpreter(self._graph).run(images)  # type: ignore[no-any-return]
        return _OneInFloat(self._graph, self.layers[in_float], self._weights[in_float]).run(images)  # type: ignore[no-any-return]


@contextmanager
def graph_pair(
    model: nn.Module, graph: GraphModule, config: QuantizationConfig, example: Tensor
) -> Iterator[GraphPair]:
    """Pair a graph with the float network that it was quantized from, both on the device of the `config`."""
    device = torch.device(config.device)
    exact = float_graph(model, example, config)
    with on_device(exact, device), on_device(graph, device):
        yield GraphPair(exact, graph)


def float_graph(model: nn.Module, example: Tensor, config: QuantizationConfig) -> GraphModule:
    """Capture a network as it is quantized, batch norm folded, but in float."""
    graph = prepare(capture(model, example), config)
    with quiet():
        for node in list(graph.graph.nodes):
            if node.op == "call_module" and "post_process" in str(node.target):
                node.replace_all_uses_with(node.args[0])
                graph.graph.erase_node(node)
        graph.delete_all_unused_submodules()
        graph.recompile()
    return graph


def quantized_layers(graph: GraphModule) -> list[tuple[int, GraphLayer]]:
    """List the quantized layers of a PT2E graph, with their positions among all convolutions and linears."""
    found = []
    for position, (node, name) in enumerate(layer_nodes(graph)):
        given = node.args[1 if node.target == ops.addmm.default else 0]
        if is_quantized(node) and is_dequantize(given) and "per_tensor.default" in str(getattr(given, "target", "")):
            assert isinstance(given, Node)
            quantize, *numbers = given.args
            assert isinstance(quantize, Node)
            scale, zero, low, high, *_ = list[Any](numbers)
            found.append((position, GraphLayer(name, float(scale), int(zero), int(low), int(high), node, quantize)))
    return found


class _Watched(Interpreter):
    """Runs a graph and hands number, arguments and output of its layers to `see`."""

    def __init__(
        self, graph: GraphModule, numbers: Mapping[Node, int], see: Callable[[int, tuple[Any, ...], Tensor], None]
    ) -> None:
        super().__init__(graph)
        self.numbers, self.see = numbers, see

    def run_node(self, n: Node) -> Any:
        if n not in self.numbers:
            return super().run_node(n)
        arguments, _ = self.fetch_args_kwargs_from_env(n)
        output = super().run_node(n)
        self.see(self.numbers[n], tuple(arguments), output)
        return output


class _OneInFloat(Interpreter):
    """Runs a quantized graph with one layer in float."""

    def __init__(self, graph: GraphModule, layer: GraphLayer, weight: Tensor) -> None:
        super().__init__(graph)
        self.layer, self.weight, self.value = layer, weight, weight

    def run_node(self, n: Node) -> Any:
        if n is self.layer.quantize:
            self.value = self.fetch_args_kwargs_from_env(n)[0][0]
        if n is not self.layer.node:
            return super().run_node(n)
        return self.layer.call(self.fetch_args_kwargs_from_env(n)[0], self.value, self.weight)
