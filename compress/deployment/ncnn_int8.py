"""INT8 for ncnn: scales found on the calibration set, and a float artifact rewritten with them.

ncnn's own programs for this, ncnn2table and ncnn2int8, are in no Python package. Their file format is followed here
(`tools/quantize` and `src/modelbin.cpp` of github.com/Tencent/ncnn): a layer with setting 8 has 8-bit weights, a scale
per output channel and one for its input, all symmetric. 3x3 convolutions of stride 1 get 6-bit weights, because ncnn
multiplies them in 16 bits (Winograd).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compress.deployment.ncnn import INPUT, _import, _layers, _net, _weights
from compress.deployment.ncnn_weights import FLOAT_TAG, Layer, stored_parts
from compress.quantization.config import QuantizationConfig
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    Floats = NDArray[np.float32]

INT8_TAG = (0x000D4B38).to_bytes(4, "little")
INT8_TERM = "8"  # setting: with which scales a layer computes in integer; 0 for float
TERMS = {"Convolution": "2", "ConvolutionDepthWise": "1", "InnerProduct": "2"}
LEVELS, WINOGRAD_LEVELS = 127, 31
BINS, STEP, QUANTA = 2048, 8, 128  # of histograms of `observer: entropy`
Ranges = Callable[[str, "Floats"], None]


def quantize_ncnn(path: Path, batches: Sequence[Tensor], config: QuantizationConfig) -> None:
    """Quantize the convolutions and linears of a float artifact in place.

    Args:
        path: `model.ncnn.param`, with `model.ncnn.bin` beside it.
        batches: The calibration set, `[b, 3, r, r]`, normalised.
        config: Its `observer` is `entropy`, `minmax` or `percentile`.

    Raises:
        CompressError: the file has a kind of layer whose weights are not known here.
    """
    layers = [Layer.of(words) for words in _layers(path)]
    chosen = [layer for layer in layers if layer.kind in TERMS]
    inputs = _input_ranges(path, {layer.inputs[0] for layer in chosen}, batches, config)
    data, stored = _weights(path).read_bytes(), []
    place = 0
    for layer in layers:
        parts = stored_parts(layer)
        length = sum(part.length for part in parts)
        own = data[place : place + length]
        if layer in chosen and inputs[layer.inputs[0]] > 0:
            own = _integer(layer, own, LEVELS / inputs[layer.inputs[0]])
            layer.settings[INT8_TERM] = TERMS[layer.kind]
        stored.append(own)
        place += length
    if place != len(data):
        kinds = ", ".join(sorted({layer.kind for layer in layers} - set(TERMS)))
        raise CompressError(f"ncnn cannot quantize {path}: the weights of one of its layers ({kinds}) are not known")
    _weights(path).write_bytes(b"".join(stored))
    header = path.read_text(encoding="utf-8").split("\n")[:2]
    path.write_text("\n".join([*header, *(layer.line for layer in layers), ""]), encoding="utf-8")


def _integer(layer: Layer, stored: bytes, input_scale: float) -> bytes:
    """Return the integers of a convolution or linear, its bias, and its scales."""
    weight, bias = stored_parts(layer)
    if stored[:4] != FLOAT_TAG:
        raise CompressError(f"the weights of {layer.name} are not stored as float")
    values = np.frombuffer(stored, np.float32, weight.count, 4)
    groups = layer.number(7, 1) if layer.kind == "ConvolutionDepthWise" else layer.number(0)
    rows = values.reshape(groups, -1)
    largest = np.abs(rows).max(1)
    scales = np.where(largest > 0, _levels(layer) / np.maximum(largest, 1e-30), 1.0).astype(np.float32)
    integers = np.clip(np.rint(rows * scales[:, None]), -LEVELS, LEVELS).astype(np.int8).tobytes()
    padding = bytes(-len(integers) % 4)
    rest = stored[weight.length : weight.length + bias.length]
    return b"".join([INT8_TAG, integers, padding, rest, scales.tobytes(), np.float32(input_scale).tobytes()])


def _levels(layer: Layer) -> int:
    """Return the largest integer weight."""
    if layer.kind != "Convolution":
        return LEVELS
    side, dilation, stride = layer.number(1), layer.number(2, 1), layer.number(3, 1)
    height, down = layer.number(11, side), layer.number(13, stride)
    dilations = dilation, layer.number(12, dilation)
    winograd = (side, height) == (3, 3) and dilations == (1, 1) and (stride, down) == (1, 1)
    return WINOGRAD_LEVELS if winograd else LEVELS


def _input_ranges(
    path: Path, names: Iterable[str], batches: Sequence[Tensor], config: QuantizationConfig
) -> dict[str, float]:
    """Find the largest absolute value to represent of each of the blobs `names`."""
    largest = dict.fromkeys(names, 0.0)

    def widen(name: str, values: Floats) -> None:
        own = values if config.observer != "percentile" else np.percentile(values, config.percentile)
        largest[name] = max(largest[name], float(np.max(own)))

    _observe(path, tuple(largest), batches, widen)
    if config.observer != "entropy":
        return largest
    counts = {name: np.zeros(BINS) for name in largest}

    def count(name: str, values: Floats) -> None:
        counts[name] += np.histogram(values[values > 0], BINS, (0, largest[name] or 1.0))[0]

    _observe(path, tuple(largest), batches, count)
    return {name: largest[name] * least_divergence(counts[name]) / BINS for name in largest}


def _observe(path: Path, names: Sequence[str], batches: Sequence[Tensor], see: Ranges) -> None:
    """Run the float network on every image, and show the absolute values of blobs."""
    ncnn: Any = _import()
    net = _net(path, 1, keep_all=True)
    for batch in batches:
        for image in batch.numpy():
            extractor = net.create_extractor()
            extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(image)).clone())
            for name in names:
                status, blob = extractor.extract(name)
                if status:
                    raise CompressError(f"ncnn cannot compute {name} of {path}")
                see(name, np.abs(np.array(blob.numpy(), np.float32)))


def least_divergence(counts: NDArray[np.float64]) -> int:
    """Return how many bins of a histogram of absolute values to represent by 128 levels: the rest is clipped.

    The number whose clipped and rounded distribution diverges least from the observed one (Kullback-Leibler; Migacz,
    8-bit inference with TensorRT, 2017).
    """
    best, least = len(counts), np.inf
    for width in range(QUANTA, len(counts) + 1, STEP):
        seen = counts[:width].copy()
        group = np.arange(width) * QUANTA // width
        filled = seen > 0
        mean = np.bincount(group, seen, QUANTA) / np.maximum(np.bincount(group, filled, QUANTA), 1)
        coarse = np.where(filled, mean[group], 0.0)
        seen[-1] += counts[width:].sum()
        if not coarse.sum():
            continue
        p, q = seen / seen.sum(), np.maximum(coarse / coarse.sum(), 1e-9)
        divergence = float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))
        if divergence < least:
            best, least = width, divergence
    return best
