"""Static INT8 after training: torchao's PT2E with its x86 quantizer.

Weights become signed 8-bit integers with one scale a channel, activations unsigned ones with one scale a tensor, found
on calibration images by histograms. Batch normalisation is folded into the convolutions first. (torchao's `quantize_`
would touch linears alone and leave every convolution in float without a word.)

Integer kernels for x86 processors without VNNI add two products of an activation and a weight in 16 bits, which 8-bit
weights overflow: 2 x 255 x 128 > 32,767. Weights within -64 to 63 do not, so that the same file can be used with and
without VNNI. (torchao's own `reduce_range` narrows the activations, but its range is lost in ONNX, where everything up
to 255 passes.)
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from compress.quantization.capture import capture
from compress.quantization.config import Scheme
from compress.utils.quiet import quiet

SEVEN_BITS = (-64, 63)
SYMMETRIC = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127, "qscheme": torch.per_tensor_symmetric}
"""Activations of `target: portable`."""


def quantize(model: nn.Module, batches: Iterable[Tensor], example: Tensor, scheme: Scheme) -> GraphModule:
    """Quantize a network to a graph that simulates the integer arithmetic in float and takes any batch size.

    Args:
        model: The float network, which stays as it is.
        batches: Calibration images `[b, 3, r, r]`.
        example: Two or more images `[b, 3, r, r]`; only their shape counts.
        scheme: How.
    """
    observed = prepare(capture(model, example), scheme)
    with torch.no_grad():
        for batch in batches:
            observed(batch)
    return convert(observed)


def prepare(graph: GraphModule, scheme: Scheme) -> GraphModule:
    """Insert observers into a captured graph."""
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        # torchao keeps one configuration for all callers: what is changed is changed in a copy.
        config: Any = x86.get_default_x86_inductor_quantization_config()
        activation = config.input_activation
        observer = _observer(scheme)
        if observer:
            activation = replace(activation, observer_or_fake_quant_ctr=observer)
        if scheme.target == "portable":
            activation = replace(activation, **SYMMETRIC)
        config = replace(config, input_activation=activation, output_activation=activation)
        if scheme.reduce_range:
            low, high = SEVEN_BITS
            config = replace(config, weight=replace(config.weight, quant_min=low, quant_max=high))
        quantizer = x86.X86InductorQuantizer().set_global(config)
        for name in scheme.keep:
            quantizer.set_module_name_qconfig(name, None)
        prepared: GraphModule = prepare_pt2e(graph, quantizer)
    return prepared


def _observer(scheme: Scheme) -> Any:
    """torchao's constructor of what finds activation ranges; None for its default, the histogram."""
    from compress.quantization.observers import min_max, percentile

    constructors = {"histogram": None, "minmax": min_max(), "percentile": percentile(scheme.percentile)}
    return constructors[scheme.observer or "histogram"]


def convert(observed: GraphModule) -> GraphModule:
    """Replace observers by quantize and dequantize nodes, and float weights by their integers."""
    with quiet():
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        graph: GraphModule = convert_pt2e(observed)
    # `.eval()` of an exported graph raises. This one was exported in eval mode and has no other.
    for module in graph.modules():
        module.training = False
    graph.eval = types.MethodType(lambda self: self, graph)  # type: ignore[method-assign]
    graph.train = types.MethodType(lambda self, mode=True: self, graph)  # type: ignore[method-assign]
    return graph
