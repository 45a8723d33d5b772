"""Static INT8 after training, by any of the methods."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from torch import Tensor, nn

from compress.quantization import capture, onnx_network
from compress.quantization.config import DEFAULT, Scheme, refuse_broken_weights, refuse_calibration
from compress.quantization.four_bits import BITS, quantize_linears
from compress.quantization.methods import METHODS, require_method
from compress.utils.errors import CompressError, UsageError, first_line
from compress.utils.quiet import quiet


@dataclass(frozen=True)
class Quantized:
    """A quantized network.

    Attributes:
        network: Images `[b, 3, r, r]` to logits `[b, classes]`, for any b: a graph of torchao's that simulates the
            integer arithmetic in float, or an `OnnxNetwork`.
        layers: (weight bits, activation bits) of every quantized layer, by its name in the float network.
        convolutions: How many are quantized, and how many there are.
    """

    network: nn.Module
    layers: Mapping[str, tuple[int, int]]
    convolutions: tuple[int, int]


def quantize(
    model: nn.Module,
    calibration: Iterable[Tensor],
    example: Tensor,
    scheme: Scheme = DEFAULT,
    method: str = "torchao",
) -> Quantized:
    """Quantize the convolutions and linears of a trained network; `model` itself stays as it is.

    Args:
        model: A float network of images.
        calibration: Batches of train images `[b, 3, r, r]`, normalised as in training.
        example: Two or more images `[b, 3, r, r]`; only their shape counts.
        scheme: How.
        method: Of `METHODS`.

    Raises:
        UsageError: the method has no weights of 4 bits, and they are asked for.
        CompressError: a package is missing, a weight is not finite, the calibration images cannot calibrate anything,
            or there was nothing that could be quantized as was asked.
    """
    found = require_method(method)
    if scheme.linear_weight_bits == BITS and not found.in_file:
        able = " and ".join(name for name, other in METHODS.items() if other.in_file)
        raise UsageError(f"`method: {method}` has no weights of {BITS} bits; {able} have")
    batches = list(calibration)
    refuse_broken_weights(model)
    refuse_calibration(batches)
    make = _file if found.in_file else _graph
    quantized = make(model, batches, example, scheme, method)
    if not quantized.layers:
        raise CompressError(f"{type(model).__name__} has no convolution or linear that could be quantized")
    return quantized


def _graph(model: nn.Module, batches: Sequence[Tensor], example: Tensor, scheme: Scheme, method: str) -> Quantized:
    from compress.quantization.torchao_pt2e import quantize

    graph = quantize(model, batches, example, scheme)
    return Quantized(graph, capture.layer_bits(graph), capture.quantized_convolutions(graph))


def _file(model: nn.Module, batches: Sequence[Tensor], example: Tensor, scheme: Scheme, method: str) -> Quantized:
    import onnx

    from compress.deployment.onnx_file import write_onnx

    with tempfile.TemporaryDirectory() as work:
        path = Path(work) / "float.onnx"
        write_onnx(model, example.shape[-1], path)
        proto = onnx.load(path)
    names = onnx_network.layers_of(proto, model)
    if not names:
        return Quantized(model, {}, (0, 0))
    excluded = onnx_network.nodes_of(names, scheme.keep)
    narrow = _linears(model, names, scheme) if scheme.linear_weight_bits == BITS else []
    quantize_file = importlib.import_module(METHODS[method].module).quantize
    try:
        with quiet(), redirect_stdout(StringIO()):  # bars and advice
            made = quantize_file(proto, model, batches, [*excluded, *narrow], scheme)
            made = quantize_linears(made, narrow) if narrow else made
    except Exception as error:  # the quantizers raise types of their own
        raise CompressError(f"{method} cannot quantize {type(model).__name__}: {first_line(error)}") from error
    layers, convolutions = onnx_network.layer_bits(made, names), onnx_network.quantized_convolutions(made)
    file = made.SerializeToString(deterministic=True)
    return Quantized(onnx_network.OnnxNetwork(file), layers, convolutions)


def _linears(model: nn.Module, names: Mapping[str, str], scheme: Scheme) -> list[str]:
    """Nodes of the linear layers that are not to stay in float."""
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if not linears & set(names.values()):
        raise CompressError(f"{type(model).__name__} has no linear layer whose weights could have {BITS} bits")
    return onnx_network.nodes_of(names, linears - set(scheme.keep))
