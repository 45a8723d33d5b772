"""ncnn on the CPU: phones and small boards.

PNNX converts a trace of the network. Everything is stored and computed in FP32, though by default ncnn halves both: its
outputs then differ from PyTorch's. A file in FP16 is stored so, and computed so where the processor can.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.conversion import convert, exporting
from compress.deployment.coverage import Coverage, products
from compress.deployment.ncnn_weights import Layer, is_half
from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime, require_images
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import silent
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from torch import Tensor

    from compress.quantization.config import QuantizationConfig

MAGIC = "7767517"
WEIGHTS = {"Convolution": "6", "ConvolutionDepthWise": "6", "InnerProduct": "2"}
"""Kinds of layers that multiply with weights, and the setting with the number of weights; setting 0 has the outputs."""
UNCOUNTED = ("Gemm", "MultiHeadAttention", "Deconvolution", "DeconvolutionDepthWise")
WAIT_POLICY = "OMP_WAIT_POLICY"
INPUT, OUTPUT = "in0", "out0"  # PNNX's names for the ends of a network


class Ncnn(Runtime):
    """ncnn on the CPU."""

    format = "ncnn"
    files = ("model.ncnn.param", "model.ncnn.bin")
    reads = (".ncnn.param",)
    engine = "ncnn"
    packages = ("ncnn", "pnnx")
    install = "pip install 'compress-model[ncnn]'"
    quantizers = ("ncnn",)
    precisions = ("fp32", "fp16")

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.ncnn.param`, the graph as text, and `model.ncnn.bin`, its weights."""
        import pnnx

        trace, path = source.work / "model.pt", folder / self.files[0]
        failure = f"{type(source.model).__name__} cannot be converted to ncnn"
        _trace(source, trace)
        results = {"ncnnparam": path, "ncnnbin": _weights(path)}
        others = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")  # written as well, beside the trace
        results |= {key: source.work / f"model.{key}" for key in others}
        fp16 = f"fp16={int(source.precision == 'fp16')}"
        command = [pnnx.EXEC_PATH, str(trace), fp16, *(f"{key}={value}" for key, value in results.items())]
        convert(command, path, "PNNX", failure)
        foreign = sorted({layer[0] for layer in _layers(path) if not layer[0].isidentifier()})
        if foreign:
            raise CompressError(f"{failure}, which has no {', '.join(foreign)}")
        _write_input_shape(path, source.resolution)
        return path

    def import_engine(self) -> Any:
        """Import ncnn, whose OpenMP reads the environment at that time."""
        return _import()

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load an artifact."""
        import numpy as np

        net = _net(path, thread_count(threads))
        ncnn = _import()
        expected = _input_shape(path)

        def infer(images: Array) -> Array | None:
            extractor = net.create_extractor()
            # A copy, because ncnn's kernels rely on the alignment of its rows.
            extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(images), batch_index=0).clone())
            status, logits = extractor.extract(OUTPUT)
            return None if status else np.array(logits.numpy(batch_index=0))

        takes_batches = True

        def run(images: Array) -> Array:
            nonlocal takes_batches
            if expected:
                require_images(path, images, expected)
            logits = infer(images) if takes_batches or len(images) == 1 else None
            if logits is not None:
                return logits
            # Networks with constants among their layers (ConvNeXt's scales) take no batch.
            takes_batches = False
            rows = [infer(image[None]) for image in images]
            answered = [row for row in rows if row is not None]
            if len(answered) < len(rows):
                raise CompressError(f"ncnn cannot run {path} on images of shape {list(images.shape)}")
            return np.concatenate(answered)

        return run

    def coverage(self, path: Path) -> Coverage:
        """Count the layers that have scales, which ncnn computes in integer."""
        layers = _layers(path)
        convolutions = [layer for layer in layers if layer[0].startswith("Convolution")]
        macs, integer = _macs(path, layers)
        return Coverage(sum(map(_is_integer, convolutions)), len(convolutions), integer, macs, _half_macs(path, macs))

    def quantize_file(self, path: Path, batches: Sequence[Tensor], config: QuantizationConfig) -> None:
        """Write scales and 8-bit weights into an artifact."""
        from compress.deployment.ncnn_int8 import quantize_ncnn

        quantize_ncnn(path, batches, config)


def _half_macs(path: Path, macs: int | None) -> int | None:
    """MACs that run in FP16: ncnn does not say, but its outputs are then others than with FP16 as storage alone.

    None where they are and not every layer with weights has kernels for FP16.
    """
    import numpy as np

    expected = _input_shape(path)
    if not _is_half(path) or expected is None:
        return 0
    pixels = np.random.default_rng(0).normal(size=expected).astype(np.float32)
    outputs, layers = [], []
    for arithmetic in (False, True):
        net = _net(path, 1, arithmetic=arithmetic)
        extractor = net.create_extractor()
        extractor.input(INPUT, _import().Mat(pixels).clone())
        outputs.append(np.array(extractor.extract(OUTPUT)[1].numpy()))
        layers = [layer for layer in net.layers() if layer.type in WEIGHTS]
    if np.array_equal(outputs[0], outputs[1]):
        return 0
    return macs if all(layer.support_fp16_storage for layer in layers) else None


def _is_half(path: Path) -> bool:
    """Whether the weights are stored in FP16."""
    layers = _layers(path)
    try:
        with _weights(path).open("rb") as file:
            return is_half(map(Layer.of, layers), file)
    except (OSError, ValueError) as error:
        raise CompressError(f"ncnn cannot read {path} and its weights {_weights(path).name}") from error


def _write_input_shape(path: Path, side: int) -> None:
    """Write the shape of the images into the graph: ncnn reads beyond images smaller than its layers expect."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^(Input\b.*?) *$", rf"\1 0={side} 1={side} 2=3", text, flags=re.M), encoding="utf-8")


def _input_shape(path: Path) -> tuple[int, int, int] | None:
    """Channels, height and width, settings 2, 1 and 0 of the graph's input; None where it does not have them."""
    layer = next((words for words in _layers(path) if words[0] == "Input" and INPUT in words), [])
    settings = dict(re.findall(r"\b([012])=(\d+)", " ".join(layer)))
    return (int(settings["2"]), int(settings["1"]), int(settings["0"])) if len(settings) == 3 else None


def _is_integer(layer: Sequence[str]) -> bool:
    """Whether a convolution or linear has scales (setting 8), by which ncnn computes it in integer."""
    return any(word.startswith("8=") and word != "8=0" for word in layer)


def _macs(path: Path, layers: Sequence[Sequence[str]]) -> tuple[int | None, int | None]:
    """MACs of one image, and those in integer, from sizes of weights and of results in a run; None with other kinds."""
    import numpy as np

    if any(layer[0] in UNCOUNTED for layer in layers):
        return None, None if any(map(_is_integer, layers)) else 0
    side = json.loads((path.parent / PREPROCESS).read_text(encoding="utf-8"))["resolution"]
    net = _net(path, 1, keep_all=True)
    extractor = net.create_extractor()
    extractor.input(INPUT, _import().Mat(np.zeros((3, side, side), np.float32)).clone())
    total = integer = 0
    for layer in layers:
        kind, _, inputs, outputs, *rest = layer
        if kind in WEIGHTS:
            settings = dict(entry.split("=") for entry in rest[int(inputs) + int(outputs) :])
            _, result = extractor.extract(rest[int(inputs)])
            own = products(result.numpy().shape, [int(settings[WEIGHTS[kind]])], int(settings["0"]))
            total, integer = total + own, integer + (own if _is_integer(layer) else 0)
    return total, integer


def _net(path: Path, threads: int, *, keep_all: bool = False, arithmetic: bool = True) -> Any:
    """Load the network in the precision of its weights; with `keep_all`, the results of all layers stay available.

    Without `arithmetic`, one in FP16 is computed in FP32.
    """
    half = _is_half(path)  # which reads the graph: ncnn itself accepts a truncated last line
    net = _import().Net()
    net.opt.num_threads = threads
    net.opt.lightmode = not keep_all
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, option, half and option.startswith("use_fp16"))
    net.opt.use_fp16_arithmetic = half and arithmetic
    with silent():
        # As bytes: its binding does not encode names that are not Unicode.
        failed = net.load_param(os.fsencode(path)) or net.load_model(os.fsencode(_weights(path)))
    if failed:
        raise CompressError(f"ncnn cannot read {path} and its weights {_weights(path).name}")
    return net


def _import() -> Any:
    """Import ncnn, with threads that sleep while they wait for one another.

    By default its OpenMP, which reads the environment when it is loaded, lets them spin: on a busy processor a run then
    takes several times as long, and so does everything else there.
    """
    before = os.environ.get(WAIT_POLICY)
    os.environ[WAIT_POLICY] = before or "PASSIVE"
    try:
        import ncnn
    finally:
        if before is None:
            del os.environ[WAIT_POLICY]
        else:
            os.environ[WAIT_POLICY] = before
    return ncnn


def _trace(source: ExportSource, path: Path) -> None:
    import torch

    example = torch.zeros(1, 3, source.resolution, source.resolution)
    with exporting(source.model, "traced for ncnn"):
        torch.jit.save(torch.jit.trace(source.model, example), str(path))  # type: ignore[no-untyped-call]


def _weights(path: Path) -> Path:
    return path.with_suffix(".bin")


def _layers(path: Path) -> list[list[str]]:
    """Read the layers of a graph as words, their kind first: one line each, after a magic number and their number."""
    try:
        magic, counts, *lines = path.read_text(encoding="utf-8").split("\n")
        count, _ = map(int, counts.split())
        if magic != MAGIC or lines.pop() or len(lines) != count:
            raise ValueError("it is truncated, or of another kind")
        words = [line.split() for line in lines]
        if not all(words):
            raise ValueError("it has an empty line")
        if not {INPUT, OUTPUT} <= {word for line in words for word in line}:
            raise ValueError(f"its ends are not named {INPUT} and {OUTPUT}, as PNNX names them")
        return words
    except (OSError, ValueError, IndexError) as error:
        raise CompressError(f"ncnn cannot read {path}: {first_line(error)}") from error
