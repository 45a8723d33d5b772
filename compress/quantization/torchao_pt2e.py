"""`torchao`: static INT8 by torchao's PT2E with its x86 quantizer.

Weights become signed 8-bit integers with one scale per channel, activations unsigned ones with one scale per tensor,
found by histograms of calibration images. Batch normalisation is folded into the convolutions first. (torchao's
`quantize_` would quantize linears alone and silently leave every convolution in float.)

Integer kernels for x86 processors without VNNI add two products of an activation and a weight in 16 bits, which 8-bit
weights overflow: 2 x 255 x 128 > 32,767. Weights within -64 to 63 do not, so that the same file works with and without
VNNI. (torchao's own `reduce_range` narrows the activations, but that range is lost in ONNX, which allows up to 255.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Method, Quantized

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.fx import GraphModule

    from compress.models.architecture import Architecture


def calibrate(model: nn.Module, batches: Sequence[Tensor], example: Tensor, config: QuantizationConfig) -> Quantized:
    """Quantize a network to a graph that simulates the integer arithmetic in float and takes any batch size.

    Arguments are those of `compress.quantization.ptq.quantize`.
    """
    import torch

    from compress.measurement.batch_size import BatchSize
    from compress.measurement.device import exact_float32, on_device
    from compress.quantization.capture import capture, layer_bits, quantized_convolutions
    from compress.quantization.pt2e import convert, prepare
    from compress.utils.boundaries import boundary

    device = torch.device(config.device)

    def observe(images: int) -> GraphModule:
        observed = prepare(capture(model, example), config)
        with (
            boundary("torchao", type(model).__name__),
            torch.no_grad(),
            exact_float32(device),
            on_device(observed, device),
        ):
            for batch in batches:
                for start in range(0, len(batch), images):
                    observed(batch[start : start + images].to(device))
        return observed

    graph = convert(BatchSize(max(map(len, batches)), "this calibration", device).fit(observe))
    return Quantized(graph, layer_bits(graph), quantized_convolutions(graph))


def restore(folder: Path, architecture: Architecture) -> nn.Module:
    """Rebuild a stored graph."""
    from compress.quantization.serialize import restore_graph

    return restore_graph(folder, architecture)


METHOD = Method(
    packages=("torchao",),
    observers=("histogram", "minmax", "percentile"),
    targets=("x86", "portable"),
    trains=True,
    about="PT2E with the x86 quantizer, a PyTorch graph: for OpenVINO, Inductor, TensorRT, Core ML and training",
    calibrate=calibrate,
    restore=restore,
)
