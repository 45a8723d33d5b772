"""Post-training quantization of a network's ONNX file, whichever method quantizes the file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from compress.models.onnx_export import write_onnx
from compress.models.onnx_network import OnnxClassifier, OnnxNetwork
from compress.models.onnx_padding import absorb_padding
from compress.models.onnx_storage import MAX_BYTES
from compress.quantization import onnx_layers
from compress.quantization.config import QuantizationConfig
from compress.quantization.four_bits import BITS, quantize_linears
from compress.quantization.method import FloatFile, Quantized
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError
from compress.utils.messages import join_words
from compress.utils.quiet import quiet

if TYPE_CHECKING:
    from onnx import ModelProto

QuantizeProto = Callable[["ModelProto", nn.Module, Sequence[Tensor], Sequence[str], QuantizationConfig], "ModelProto"]
"""`(proto, model, batches, excluded, config)`: quantize the float file `proto`, which may be changed, of `model` with
ranges found on calibration images `[b, 3, r, r]`; nodes named in `excluded` stay in float."""


def quantize_onnx(
    method: str,
    quantize_proto: QuantizeProto,
    model: nn.Module,
    batches: Sequence[Tensor],
    example: Tensor,
    config: QuantizationConfig,
) -> Quantized:
    """Export a network to ONNX, quantize the file, and read from it which layers are integer; see `ptq.quantize`.

    Raises:
        CompressError: the network cannot be exported, or the method fails on it.
    """
    proto, names = _float_file(model, example.shape[-1])
    if not names:
        return Quantized(model, {}, (0, 0))
    if proto.ByteSize() > MAX_BYTES:
        size = f"{type(model).__name__} takes {proto.ByteSize() / 1e9:.2f} GB in ONNX"
        raise CompressError(
            f"{size}, and {method} quantizes up to 2 GB; set `method: torchao`, or quantize a smaller student"
        )
    source = FloatFile(proto.SerializeToString(), names)
    excluded = onnx_layers.nodes_of(names, config.keep)
    narrow = _linear_nodes(model, names, config) if config.linear_weight_bits == BITS else []
    with boundary(method, type(model).__name__), quiet(), redirect_stdout(StringIO()):  # bars and advice
        made = quantize_proto(proto, model, batches, [*excluded, *narrow], config)
        made = quantize_linears(made, narrow) if narrow else made
    _require_finite(made, method)
    layers, convolutions = onnx_layers.layer_bits(made, names), onnx_layers.quantized_convolutions(made)
    file = made.SerializeToString(deterministic=True)
    return Quantized(OnnxNetwork(file), layers, convolutions, source)


def _require_finite(proto: ModelProto, method: str) -> None:
    """Refuse a file with a scale that is no number above 0: behind it, all that the network computes is lost."""
    for tensor in onnx_layers.broken_scales(proto):
        others = join_words(f"`method: {other}`" for other in ("torchao", "nncf") if other != method)
        raise CompressError(
            f"{method} finds no finite range for {tensor}: its values overflow, or are infinite by design (masks); "
            f"leave its layer out with `keep`, or set {others}"
        )


def _float_file(model: nn.Module, resolution: int) -> tuple[ModelProto, dict[str, str]]:
    """Return the ONNX file of a float network, and the names of its layers by those of the nodes."""
    import onnx

    if isinstance(model, OnnxClassifier):
        proto = onnx.load_from_string(model.file)
        absorb_padding(proto)
        return proto, model.layer_names
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "float.onnx"
        write_onnx(model, resolution, path)
        proto = onnx.load(path)
    absorb_padding(proto)
    return proto, onnx_layers.layers_of(proto, model)


def _linear_nodes(model: nn.Module, names: Mapping[str, str], config: QuantizationConfig) -> list[str]:
    """Names of the nodes that compute the linear layers to be quantized."""
    linears = {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    if not linears & set(names.values()):
        raise CompressError(f"{type(model).__name__} has no linear layer whose weights could have {BITS} bits")
    return onnx_layers.nodes_of(names, linears - set(config.keep))
