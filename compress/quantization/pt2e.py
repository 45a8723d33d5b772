"""Quantization of a captured graph by torchao's PT2E with its x86 quantizer: observers in, integers out."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch.fx import GraphModule

from compress.quantization.capture import calls_of
from compress.quantization.config import QuantizationConfig
from compress.utils.boundaries import boundary
from compress.utils.quiet import quiet

SEVEN_BITS = (-64, 63)
FOLD, PATCHING = "_fold_conv_bn_qat_helper", threading.Lock()
NETWORK = "the network"  # a captured graph has no name of its own
SYMMETRIC = {"dtype": torch.int8, "quant_min": -128, "quant_max": 127, "qscheme": torch.per_tensor_symmetric}
"""Activations of `target: portable`."""


def prepare(graph: GraphModule, config: QuantizationConfig) -> GraphModule:
    """Insert observers into a captured graph."""
    with boundary("torchao", NETWORK), quiet():
        from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
        from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

        # torchao keeps one configuration for all callers: what is changed is changed in a copy.
        spec: Any = x86.get_default_x86_inductor_quantization_config()
        activation = spec.input_activation
        observer = activation_observer(config)
        if observer:
            activation = replace(activation, observer_or_fake_quant_ctr=observer)
        if config.target == "portable":
            activation = replace(activation, **SYMMETRIC)
        spec = replace(spec, input_activation=activation, output_activation=activation)
        prepared: GraphModule = prepare_pt2e(graph, x86_quantizer(spec, config, graph))
    return prepared


def x86_quantizer(spec: Any, config: QuantizationConfig, graph: GraphModule) -> Any:
    """Make torchao's x86 quantizer of a captured graph, of its own configuration `spec`, with weights and float layers
    as in `config`.
    """
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    if config.reduce_range:
        low, high = SEVEN_BITS
        spec = replace(spec, weight=replace(spec.weight, quant_min=low, quant_max=high))
    quantizer = x86.X86InductorQuantizer().set_global(spec)
    for name in calls_of(graph, config.keep):
        quantizer.set_module_name_qconfig(name, None)
    return quantizer


def activation_observer(config: QuantizationConfig) -> Any:
    """Constructor of the observer of activation ranges; None for torchao's default, the histogram."""
    from compress.quantization.observers import min_max, percentile

    constructors = {"histogram": None, "minmax": min_max(), "percentile": percentile(config.percentile)}
    return constructors[config.observer or "histogram"]


def convert(observed: GraphModule) -> GraphModule:
    """Replace observers by quantize and dequantize nodes, and float weights by their integers."""
    with boundary("torchao", NETWORK), quiet(), _patterns_of(observed):
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

        graph: GraphModule = convert_pt2e(observed)
    # `.eval()` of an exported graph raises. This one was exported in eval mode and has no other.
    for module in graph.modules():
        module.training = False
    graph.eval = types.MethodType(lambda self: self, graph)  # type: ignore[method-assign]
    graph.train = types.MethodType(lambda self, mode=True: self, graph)  # type: ignore[method-assign]
    return graph


@contextmanager
def _patterns_of(observed: GraphModule) -> Iterator[None]:
    """Let torchao look only for patterns of quantization-aware training that the graph can have.

    Where a batch norm is left, as in DenseNets, it captures 24 patterns for each of four kinds of convolution anew in
    each conversion, for half a minute in all.
    """
    from torchao.quantization.pt2e import qat_utils

    aware = any(hasattr(module, "enable_observer") for module in observed.modules())
    called = {getattr(node.target, "overloadpacket", None) for node in observed.graph.nodes} if aware else set()
    if not hasattr(qat_utils, FOLD):  # of a version that searches in another way
        yield
        return
    with PATCHING:
        original: Any = getattr(qat_utils, FOLD)

        def fold(graph: GraphModule, convolution: Any, *arguments: Any, **options: Any) -> GraphModule:
            packet = getattr(torch.ops.aten, convolution.__name__)
            return original(graph, convolution, *arguments, **options) if packet in called else graph

        with patch.object(qat_utils, FOLD, fold):
            yield
