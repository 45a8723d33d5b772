"""Why INT8 hurts: the error that each layer of a quantized PT2E graph makes, against the same graph in float.

The float graph is captured and folded as the quantized one, without observers, so that both have the same layers. Of
each quantized layer are measured

- the range of its input on the calibration set, against the range of its integers, and the share that saturates;
- the signal-to-quantization-noise ratio (SQNR) of its output: alone, from float inputs, and in the quantized network;
- the share of the logits' error that disappears if it alone stays in float.

Nothing of this changes the network, so it is no part of its training ledger, as evaluation is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from compress.measurement.device import exact_float32, on_device
from compress.quantization.calibration_range import expected_range, spread
from compress.quantization.capture import capture, layer_nodes
from compress.quantization.config import QuantizationConfig
from compress.quantization.noise_record import Measured, noise_record
from compress.quantization.noise_sums import QuantizedLayer, Sums, quantized_layers, ratio, squares
from compress.quantization.pt2e import prepare
from compress.results import QuantizationNoise
from compress.utils.quiet import quiet

IMAGES = 64  # images of the calibration set that errors are measured on; ranges are those of all of it
BATCH = 16  # the outputs of all layers of a batch are held at once
RANKED_IMAGES = 8  # images on which single layers are returned to float
RANKED_LAYERS = 12  # layers that are tried so, those with the lowest SQNR of their own


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


@torch.no_grad()
def explain(
    model: nn.Module,
    graph: GraphModule,
    config: QuantizationConfig,
    calibration: Sequence[Tensor],
    validation: Sequence[Tensor],
) -> QuantizationNoise:
    """Measure the errors of the layers of a quantized network, and how far its calibration set covers validation.

    Args:
        model: The float network, on the CPU as `graph`.
        graph: The network that was quantized from it by PT2E.
        config: Its settings.
        calibration: The calibration set, batches `[b, 3, r, r]` as the network takes them.
        validation: Validation images likewise, a random choice; may be empty.
    """
    device = torch.device(config.device)
    exact = float_graph(model, calibration[0][:1].repeat(2, 1, 1, 1), config)
    with exact_float32(device), on_device(exact, device), on_device(graph, device):
        comparison = _Comparison(exact, graph)
        seen = measured = 0
        for batch in _small(calibration, device):
            comparison.add(batch, measured < IMAGES)
            measured += len(batch) if measured < IMAGES else 0
            seen += len(batch)
        comparison.close_ranges()
        shown = 0
        for batch in _small(validation, device):
            comparison.add_validation(batch)
            shown += len(batch)
        ranked = torch.cat(list(validation or calibration))[:RANKED_IMAGES]
        rows = comparison.measured(ranked.to(device))
    return noise_record(rows, (seen, measured, shown), comparison.logits)


class _Comparison:
    """The two graphs, and what was summed over the images so far."""

    def __init__(self, exact: GraphModule, graph: GraphModule) -> None:
        self.exact, self.graph = exact, graph
        found, nodes = quantized_layers(graph), [node for node, _ in layer_nodes(exact)]
        self.layers = [layer for _, layer in found]
        self.nodes = {nodes[position]: number for number, (position, _) in enumerate(found)}
        self.calibration, self.validation = ([Sums() for _ in found] for _ in range(2))
        self.weights: dict[int, Tensor] = {}  # by number of the layer
        self.rounded_weights: dict[int, Tensor] = {}
        self.ranges: list[tuple[float, float]] = []  # extremes of the inputs on the calibration set
        self.logits = (0.0, 0.0)  # squares of the logits of the calibration set, and of their errors

    def add(self, images: Tensor, noise: bool) -> None:
        """Add a batch of the calibration set: the extremes, and the errors of layers where `noise`."""
        outputs: dict[int, Tensor] = {}

        def keep(number: int, arguments: tuple[Any, ...], output: Tensor) -> None:
            self.rounded_weights[number] = arguments[self.layers[number].operands[1]]
            outputs[number] = output.clone()  # the next operator may work in place

        def measure(number: int, arguments: tuple[Any, ...], output: Tensor) -> None:
            layer, sums = self.layers[number], self.calibration[number]
            given, self.weights[number] = (arguments[place] for place in layer.operands)
            sums.extremes(given, 1 if output.ndim == 4 else given.ndim - 1)
            if noise:
                rounded = sums.rounded(layer, given)
                alone = layer.call(arguments, rounded, self.rounded_weights[number])
                sums.output += squares(output)
                sums.alone += squares(output - alone)
                sums.by_input += squares(output - layer.call(arguments, rounded, self.weights[number]))
                sums.network += squares(output - outputs.pop(number))

        if noise:
            numbers = {layer.node: number for number, layer in enumerate(self.layers)}
            logits = _Watched(self.graph, numbers, keep).run(images)
        exact = _Watched(self.exact, self.nodes, measure).run(images)
        if noise:
            self.logits = self.logits[0] + squares(exact), self.logits[1] + squares(exact - logits)

    def add_validation(self, images: Tensor) -> None:
        """Add a batch of validation: what of the inputs is beyond the ranges."""

        def measure(number: int, arguments: tuple[Any, ...], output: Tensor) -> None:
            layer, sums = self.layers[number], self.validation[number]
            given = arguments[layer.operands[0]]
            sums.rounded(layer, given)
            sums.beyond(given, *self.ranges[number])

        _Watched(self.exact, self.nodes, measure).run(images)

    def close_ranges(self) -> None:
        """Take the extremes so far as those of the calibration set."""
        self.ranges = [(min(each.lows), max(each.highs)) for each in self.calibration]

    def measured(self, images: Tensor) -> list[Measured]:
        """Return the figures of all layers; the worst of them are tried in float on `images`."""
        removed = self._ranked(images)
        rows = []
        for number, (layer, own) in enumerate(zip(self.layers, self.calibration, strict=True)):
            seen = self.validation[number]
            assert own.channels is not None
            rows.append(
                Measured(
                    layer=layer.name,
                    own=own,
                    validation=seen if seen.values else None,
                    range=self.ranges[number],
                    quantized_range=layer.range,
                    half=expected_range(own.lows, own.highs),
                    spread=spread(own.channels.tolist()),
                    removes=removed.get(number),
                )
            )
        return rows

    def _ranked(self, images: Tensor) -> dict[int, float]:
        """Return the share of the logits' error that disappears with one layer in float, by number of the layer."""
        order = sorted(range(len(self.layers)), key=self._own_error, reverse=True)
        exact = Interpreter(self.exact).run(images)
        error = squares(exact - Interpreter(self.graph).run(images))
        if not error:
            return {}
        removed = {}
        for number in order[:RANKED_LAYERS]:
            mended = _OneInFloat(self.graph, self.layers[number], self.weights[number]).run(images)
            removed[number] = 1 - squares(exact - mended) / error
        return removed

    def _own_error(self, number: int) -> float:
        """Return the squared error of a layer alone on the calibration set, or of its input where that is larger."""
        own, seen = self.calibration[number], self.validation[number]
        return max(ratio(own.alone, own.output), seen.input_error)


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

    def __init__(self, graph: GraphModule, layer: QuantizedLayer, weight: Tensor) -> None:
        super().__init__(graph)
        self.layer, self.weight, self.value = layer, weight, weight

    def run_node(self, n: Node) -> Any:
        if n is self.layer.quantize:
            self.value = self.fetch_args_kwargs_from_env(n)[0][0]
        if n is not self.layer.node:
            return super().run_node(n)
        return self.layer.call(self.fetch_args_kwargs_from_env(n)[0], self.value, self.weight)


def _small(batches: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    for batch in batches:
        for start in range(0, len(batch), BATCH):
            yield batch[start : start + BATCH].to(device)
