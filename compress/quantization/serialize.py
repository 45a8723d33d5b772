"""Quantized networks on disk, without pickle: the tensors of a graph, and its scales as plain numbers.

The graph itself is rebuilt from the float architecture by the same steps, which do not depend on weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from compress.models.architecture import Architecture, Network, QuantizationRecord
from compress.models.checkpoints import WEIGHTS, read_weights, save_variant, unpruned_network
from compress.models.hub_loader import resize
from compress.models.onnx_network import ONNX, OnnxNetwork
from compress.quantization.capture import capture
from compress.quantization.config import DEFAULT, QuantizationConfig
from compress.quantization.pt2e import convert, prepare
from compress.utils.errors import CompressError

Scale = tuple[float, int]  # scale and zero point of one quantize or dequantize node


def save_quantized(
    folder: Path, network: Network, quantized: nn.Module, config: QuantizationConfig, method: str
) -> int:
    """Store what was `quantized` from the float `network` for `load_variant`; returns the size of its weights."""
    record = QuantizationRecord(
        method=method,
        reduce_range=config.reduce_range,
        keep=config.keep,
        aware=config.aware,
        target=config.target,
    )
    if isinstance(quantized, OnnxNetwork):
        architecture = network.architecture.with_quantization(record.model_copy(update={"file": ONNX}))
        save_variant(folder, replace(network, model=quantized, architecture=architecture))
        return len(quantized.file)
    assert isinstance(quantized, GraphModule)
    state, scales = record_graph(quantized)
    shapes = {name: tuple(value.shape) for name, value in network.model.state_dict().items()}
    record = record.model_copy(update={"scales": tuple(scales), "float_shapes": shapes})
    architecture = network.architecture.with_quantization(record)
    save_variant(folder, replace(network, model=quantized, architecture=architecture), state)
    return (folder / WEIGHTS).stat().st_size


def restore_graph(folder: Path, architecture: Architecture) -> GraphModule:
    """Rebuild the graph that `save_quantized` stored in `folder`.

    Raises:
        CompressError: the weights file is damaged or of another architecture, or other library versions build another
            graph.
    """
    record = architecture.quantization
    if record is None or record.scales is None or record.float_shapes is None:
        raise CompressError(f"{folder} holds no variant: architecture.json lacks the scales of the quantized graph")
    weights = read_weights(folder / WEIGHTS)
    model = unpruned_network(architecture).eval()
    resize(model, architecture.sizes, {name: torch.empty(shape) for name, shape in record.float_shapes.items()})
    example = torch.zeros(2, 3, architecture.resolution, architecture.resolution)
    config = QuantizationConfig(
        reduce_range=record.reduce_range, keep=record.keep, aware=record.aware, target=record.target
    )
    return rebuild_graph(model, example, weights, record.scales, config)


def record_graph(graph: GraphModule) -> tuple[dict[str, Tensor], list[Scale]]:
    """Extract what `rebuild_graph` needs besides the float architecture.

    Returns:
        The tensors that the graph uses, by name (without the float weights that the conversion leaves behind), and
        (scale, zero point) of every per-tensor quantize and dequantize node in graph order, which survive JSON exactly.
    """
    state = {name: _tensor(graph, name).detach() for name in _used(graph)}
    scales = []
    for node in _per_tensor(graph):
        scale, zero_point = node.args[1:3]
        assert isinstance(scale, float) and isinstance(zero_point, int)
        scales.append((scale, zero_point))
    return state, scales


def rebuild_graph(
    model: nn.Module,
    example: Tensor,
    state: Mapping[str, Tensor],
    scales: Sequence[Sequence[float]],
    config: QuantizationConfig = DEFAULT,
) -> GraphModule:
    """Rebuild a recorded quantized network, bit for bit.

    Args:
        model: The float network with any weights, which are neither read nor changed.
        example: Two or more images `[b, 3, r, r]`; only their shape counts.

    Raises:
        CompressError: the record is of another architecture, or of library versions that build another graph.
    """
    blank = copy.deepcopy(model).eval()
    with torch.no_grad():
        for value in blank.state_dict().values():
            value.zero_()  # uninitialised weights could be NaN, which observers refuse
        graph = convert(_observed(blank, example, config))
    used, nodes = _used(graph), _per_tensor(graph)
    if set(used) != set(state) or len(nodes) != len(scales):
        differing = sorted(set(used) ^ set(state)) or [f"{len(scales)} scales instead of {len(nodes)}"]
        raise CompressError(
            f"the quantized network was recorded from another architecture than {type(model).__name__}, or with other "
            f"versions of torch and torchao: {differing[0]} ({len(differing)} differences in all)"
        )
    for name in used:
        _replace(graph, name, state[name])
    for node, (scale, zero_point) in zip(nodes, scales, strict=True):
        node.args = (node.args[0], float(scale), int(zero_point), *node.args[3:])
    graph.recompile()
    return graph


def _observed(blank: nn.Module, example: Tensor, config: QuantizationConfig) -> GraphModule:
    """Build the graph before its conversion."""
    if not config.aware:
        graph = prepare(capture(blank, example), replace(config, observer="minmax"))
        graph(torch.zeros_like(example))
        return graph
    from compress.quantization.qat import freeze, prepare_aware

    for module in blank.modules():
        if isinstance(module, nn.BatchNorm2d) and module.weight is not None:
            module.weight.fill_(1)
    graph = prepare_aware(blank, example, config)
    graph(torch.zeros_like(example))
    return freeze(graph)


def _per_tensor(graph: GraphModule) -> list[Node]:
    quantized = torch.ops.quantized_decomposed
    targets = (quantized.quantize_per_tensor.default, quantized.dequantize_per_tensor.default)
    return [node for node in graph.graph.nodes if node.target in targets]


def _used(graph: GraphModule) -> list[str]:
    """Names of the tensors that the graph reads, in graph order, each once."""
    names = dict.fromkeys(str(node.target) for node in graph.graph.nodes if node.op == "get_attr")
    return [name for name in names if isinstance(_attribute(graph, name), Tensor)]


def _attribute(graph: GraphModule, name: str) -> object:
    owner, _, key = name.rpartition(".")
    return getattr(graph.get_submodule(owner), key)


def _tensor(graph: GraphModule, name: str) -> Tensor:
    value = _attribute(graph, name)
    assert isinstance(value, Tensor)
    return value


def _replace(graph: GraphModule, name: str, value: Tensor) -> None:
    own = _tensor(graph, name)
    if own.shape != value.shape or own.dtype != value.dtype:
        raise CompressError(
            f"{name} was recorded as {list(value.shape)} {value.dtype} but is {list(own.shape)} {own.dtype} here"
        )
    with torch.no_grad():
        own.copy_(value)
