"""ncnn on the CPU: phones and small boards. Float networks only.

PNNX converts a trace of the network. Everything is stored and computed in FP32: by default ncnn halves both, after
which the answers are others than PyTorch's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage, products
from compress.deployment.preprocess import PREPROCESS
from compress.deployment.runtimes import Runner, conversion_failure, thread_count
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

NAME = "ncnn"
FORMAT = "ncnn"
READS = (".ncnn.param",)
ENGINE = "ncnn"
PACKAGES = ("ncnn", "pnnx")
PROGRAMS = ()
ADD = "pip install 'compress-model[ncnn]'"
QUANTIZED: tuple[str, ...] = ()
PORTABLE = True
MAGIC = "7767517"
WEIGHTS = {"Convolution": "6", "ConvolutionDepthWise": "6", "InnerProduct": "2"}
"""Kinds of layers that multiply with weights, and which setting is the number of these; setting 0 is of outputs."""
UNTOLD = ("Gemm", "MultiHeadAttention", "Deconvolution", "DeconvolutionDepthWise")
WAITING = "OMP_WAIT_POLICY"
INPUT, OUTPUT = "in0", "out0"  # what PNNX calls the ends of a network


def build(source: Source, folder: Path) -> Path:
    """Write `model.ncnn.param`, the graph as text, and `model.ncnn.bin`, its weights.

    Raises:
        CompressError: the network cannot be traced, or uses an operator that ncnn lacks.
    """
    import pnnx

    name = type(source.model).__name__
    trace = source.work / "model.pt"
    _trace(source, trace)
    path = folder / "model.ncnn.param"
    results = {"ncnnparam": path, "ncnnbin": _weights(path)}
    others = ("pnnxparam", "pnnxbin", "pnnxpy", "pnnxonnx", "ncnnpy")  # which it writes as well, beside the trace
    results |= {key: source.work / f"model.{key}" for key in others}
    command = [pnnx.EXEC_PATH, str(trace), "fp16=0", *(f"{key}={value}" for key, value in results.items())]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if reason := conversion_failure(done, path, "PNNX"):
        raise CompressError(f"{name} cannot be converted to ncnn: {reason}")
    foreign = sorted({layer[0] for layer in _layers(path) if not layer[0].isidentifier()})
    if foreign:
        raise CompressError(f"{name} cannot be converted to ncnn, which has no {', '.join(foreign)}")
    _tell_side(path, source.resolution)
    return path


def load(path: Path, threads: int | None = None) -> Runner:
    """Make an artifact ready to run.

    Raises:
        CompressError: the graph or its weights cannot be read.
    """
    import numpy as np

    net = _net(path, thread_count(threads))
    ncnn = _import()
    takes = _input_shape(path)

    def infer(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any] | None:
        extractor = net.create_extractor()
        # A copy, because its rows begin at addresses that ncnn's kernels rely on.
        extractor.input(INPUT, ncnn.Mat(np.ascontiguousarray(images), batch_index=0).clone())
        status, logits = extractor.extract(OUTPUT)
        return None if status else np.array(logits.numpy(batch_index=0))

    batches = True

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        nonlocal batches
        if takes and images.shape[1:] != takes:
            raise CompressError(f"{path} takes images of shape {list(takes)}, not {list(images.shape[1:])}")
        logits = infer(images) if batches or len(images) == 1 else None
        if logits is None:
            # Networks with constants among their layers (ConvNeXt's scales) take no batch.
            batches = False
            rows = [infer(image[None]) for image in images]
            found = [row for row in rows if row is not None]
            if len(found) < len(rows):
                raise CompressError(f"ncnn cannot run {path} on images of shape {list(images.shape)}")
            logits = np.concatenate(found)
        return logits

    return run


def coverage(path: Path) -> Coverage:
    """Nothing runs in integer: ncnn's integer kernels want a file of another kind."""
    layers = _layers(path)
    convolutions = sum(layer[0].startswith("Convolution") for layer in layers)
    return Coverage(0, convolutions, 0, _macs(path, layers))


def _tell_side(path: Path, side: int) -> None:
    """Write the shape of the images into the graph: ncnn reads beyond those that are smaller than its layers expect."""
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"^(Input\b.*?) *$", rf"\1 0={side} 1={side} 2=3", text, flags=re.M), encoding="utf-8")


def _input_shape(path: Path) -> tuple[int, int, int] | None:
    """Channels, height and width by the graph, whose settings 2, 1 and 0 they are; None where it does not tell."""
    given = next((words for words in _layers(path) if words[0] == "Input" and INPUT in words), [])
    settings = dict(re.findall(r"\b([012])=(\d+)", " ".join(given)))
    return (int(settings["2"]), int(settings["1"]), int(settings["0"])) if len(settings) == 3 else None


def _macs(path: Path, layers: Sequence[Sequence[str]]) -> int | None:
    """MACs of one image, by the sizes of weights in the graph and of results in a run; None where a kind tells less."""
    import numpy as np

    if any(layer[0] in UNTOLD for layer in layers):
        return None
    side = json.loads((path.parent / PREPROCESS).read_text(encoding="utf-8"))["resolution"]
    net = _net(path, 1, light=False)
    extractor = net.create_extractor()
    extractor.input(INPUT, _import().Mat(np.zeros((3, side, side), np.float32)).clone())
    total = 0
    for kind, _, inputs, outputs, *rest in layers:
        if kind in WEIGHTS:
            settings = dict(entry.split("=") for entry in rest[int(inputs) + int(outputs) :])
            _, result = extractor.extract(rest[int(inputs)])
            total += products(result.numpy().shape, [int(settings[WEIGHTS[kind]])], int(settings["0"]))
    return total


def _net(path: Path, threads: int, *, light: bool = True) -> Any:
    """The network in FP32; not `light`, it keeps what its layers pass on.

    Raises:
        CompressError: the graph or its weights cannot be read.
    """
    _layers(path)  # ncnn itself takes a last line that is cut short
    net = _import().Net()
    net.opt.num_threads = threads
    net.opt.lightmode = light
    for option in dir(net.opt):
        if option.startswith(("use_fp16", "use_bf16")):
            setattr(net.opt, option, False)
    with silent():
        failed = net.load_param(str(path)) or net.load_model(str(_weights(path)))
    if failed:
        raise CompressError(f"ncnn cannot read {path} and its weights {_weights(path).name}")
    return net


def _import() -> Any:
    """ncnn, with threads that sleep where they wait for one another.

    Its OpenMP, which reads the environment when it is loaded, would have them spin: on a processor that has other work
    a run then takes several times as long, and so does what others do there.
    """
    given = os.environ.get(WAITING)
    os.environ[WAITING] = given or "PASSIVE"
    try:
        import ncnn
    finally:
        if given is None:
            del os.environ[WAITING]
        else:
            os.environ[WAITING] = given
    return ncnn


def _trace(source: Source, path: Path) -> None:
    import torch

    model, training = source.model, source.model.training
    example = torch.zeros(1, 3, source.resolution, source.resolution)
    try:
        with quiet(), warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(model.eval(), example), str(path))  # type: ignore[no-untyped-call]
    except Exception as error:  # tracing raises whatever the traced code raises
        raise CompressError(f"{type(model).__name__} cannot be traced for ncnn: {first_line(error)}") from error
    finally:
        model.train(training)


def _weights(path: Path) -> Path:
    return path.with_suffix(".bin")


def _layers(path: Path) -> list[list[str]]:
    """Words of the layers of a graph, each's kind first: a line each, after a magic number and the number of them."""
    try:
        magic, counts, *lines = path.read_text(encoding="utf-8").split("\n")
        count, _ = map(int, counts.split())
        if magic != MAGIC or lines.pop() or len(lines) != count:
            raise ValueError("it is cut short, or of another kind")
        words = [line.split() for line in lines]
        if not all(words):
            raise ValueError("it has an empty line")
        if not {INPUT, OUTPUT} <= {word for line in words for word in line}:
            raise ValueError(f"its ends are not called {INPUT} and {OUTPUT}, as PNNX calls them")
        return words
    except (OSError, ValueError, IndexError) as error:
        raise CompressError(f"ncnn cannot read {path}: {first_line(error)}") from error
