"""`xnnpack`: static INT8 by PT2E with ExecuTorch's XNNPACK quantizer, for ExecuTorch programs.

Weights become signed 8-bit integers of -127 to 127 with a scale per channel, activations signed ones with a zero point
and a scale per tensor. Convolutions, linears, residual additions, products, concatenations and average pools are
quantized. XNNPACK's integer kernels do not overflow, so that weights have all 8 bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Method, Quantized

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule, Node


def calibrate(model: nn.Module, batches: Sequence[Tensor], example: Tensor, config: QuantizationConfig) -> Quantized:
    """Quantize a network to a graph that XNNPACK runs in integer; see `compress.quantization.ptq.quantize`."""
    import torch

    from compress.quantization.capture import METHOD as METHOD_OF_GRAPH
    from compress.quantization.capture import capture, layer_bits, quantized_convolutions
    from compress.quantization.pt2e import convert
    from compress.utils.boundaries import boundary

    observed = _prepare(capture(model, example), config)
    with boundary("XNNPACK's quantizer", type(model).__name__), torch.no_grad():
        for batch in batches:
            observed(batch)
    graph = convert(observed)
    graph.meta[METHOD_OF_GRAPH] = "xnnpack"
    return Quantized(graph, layer_bits(graph), quantized_convolutions(graph))


def _prepare(graph: GraphModule, config: QuantizationConfig) -> GraphModule:
    from dataclasses import replace

    from compress.quantization.pt2e import NETWORK, activation_observer
    from compress.utils.boundaries import boundary
    from compress.utils.quiet import quiet, silent

    with boundary("XNNPACK's quantizer", NETWORK), quiet(), silent():
        from executorch.backends.xnnpack.quantizer import xnnpack_quantizer as xnnpack
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

        spec: Any = xnnpack.get_symmetric_quantization_config(is_per_channel=True)
        if observer := activation_observer(config):
            activation = replace(spec.input_activation, observer_or_fake_quant_ctr=observer)
            spec = replace(spec, input_activation=activation, output_activation=activation)
        quantizer = xnnpack.XNNPACKQuantizer().set_global(spec)
        if config.keep:
            quantizer.set_filter_function(lambda node: not _is_kept(node, config.keep))
        prepared: GraphModule = prepare_pt2e(graph, quantizer)
    return prepared


def _is_kept(node: Node, keep: Sequence[str]) -> bool:
    """Whether a node computes a layer that stays in float."""
    stack = node.meta.get("nn_module_stack") or {}
    return any(name.partition("@")[0] in keep for name, _ in stack.values())


METHOD = Method(
    packages=("torchao", "executorch"),
    observers=("histogram", "minmax", "percentile"),
    reduces=False,
    extra="executorch",
    about="PT2E with the XNNPACK quantizer: for executorch, by `method: auto`",
    calibrate=calibrate,
)
