"""OpenVINO on the CPU."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.runtimes import Runner, thread_count
from compress.errors import CompressError, first_line

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

NAME = "openvino"
FORMAT = "openvino"
READS = (".xml", ".onnx")
ENGINE = "openvino"
PACKAGES = ("onnx", "onnxscript", "openvino")
PROGRAMS = ()
ADD = "pip install 'compress-model[deploy]'"
QUANTIZED = True
PORTABLE = True


def build(source: Source, folder: Path) -> Path:
    """Write the intermediate representation, `model.xml` and `model.bin`, with weights as they are."""
    import openvino

    path, model = folder / "model.xml", _read(source.onnx())
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            # Unnamed nodes are called by a count of all that this process made: other bytes each time.
            node.set_friendly_name(f"{node.get_type_name()}.{index}")
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def load(path: Path, threads: int | None = None) -> Runner:
    """Make an artifact ready to run; each batch size is compiled when it first comes.

    Compiled for one batch size, a network runs faster than compiled for any (batch 1 in INT8 by 1.3x).

    Raises:
        CompressError: the file cannot be read.
    """
    model = _read(path)
    requests: dict[tuple[int, ...], Any] = {}

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        request = requests.get(images.shape)
        if request is None:
            fixed = model.clone()
            fixed.reshape(list(images.shape))
            request = requests[images.shape] = _compile(fixed, threads).create_infer_request()
        request.infer({0: images}, share_inputs=True)
        return request.get_output_tensor(0).data.copy()  # type: ignore[no-any-return]

    return run


def coverage(path: Path) -> tuple[int, int]:
    """Convolutions that run in integer, and all, of the graph that OpenVINO executes."""
    return integer_convolutions(_compile(_read(path), 1))


def integer_convolutions(compiled: Any) -> tuple[int, int]:
    """Convolutions of a compiled model that run in integer, and all; those that were fused into others count once."""
    precisions = []
    for node in compiled.get_runtime_model().get_ops():
        info = node.get_rt_info()
        if "Convolution" in str(info["layerType"].value):
            precisions.append(str(info["runtimePrecision"].value))
    return sum(precision in ("u8", "i8") for precision in precisions), len(precisions)


@cache
def _core() -> Any:
    """One, which lives as long as the process.

    Each sets a stack for signal handlers, and takes back the one before it when it goes: of two that go in the order in
    which they came, the first one's stack stays set without being there, and the next signal is a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _read(path: Path) -> Any:
    try:
        return _core().read_model(str(path))
    except Exception as error:  # its exception types are not public
        raise CompressError(f"OpenVINO cannot read {path}: {first_line(error)}") from error


def _compile(model: Any, threads: int | None) -> Any:
    settings = {
        # By default OpenVINO computes float networks in bf16 where the processor has it: less exact, and no baseline.
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": thread_count(threads),
    }
    return _core().compile_model(model, "CPU", settings)
