"""LiteRT, formerly TensorFlow Lite, with XNNPACK on the CPU: phones and small boards. Float networks, one image a run.

litert-torch converts the network. It asks for a torch of its own, with which torchvision does not import, so it has an
environment apart, which `scripts/make_litert_environment` makes. Converting is a process there, which is given the
exported program; running a file needs the package ai-edge-litert alone.

Of our quantized graphs it makes nothing: its converter takes weights that are quantized in the graph, and ours are
integers already.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.runtimes import Runner, conversion_failure, thread_count
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent

if TYPE_CHECKING:
    import numpy as np

    from compress.deployment.export import Source

VARIABLE = "COMPRESS_LITERT"
"""Names the environment, where it is not at its usual place."""
ENVIRONMENT = Path(os.environ.get(VARIABLE) or Path.home() / ".cache" / "compress-model" / "litert")
PYTHON = ENVIRONMENT / "bin" / "python"

NAME = "litert"
FORMAT = "litert"
READS = (".tflite",)
ENGINE = "ai_edge_litert"
PACKAGES = ("ai_edge_litert",)
PROGRAMS = (str(PYTHON),)
ADD = "scripts/make_litert_environment"
QUANTIZED: tuple[str, ...] = ()
PORTABLE = True

CONVERT = """\
import sys
try:
    import litert_torch, torch
    program = torch.export.load(sys.argv[1])
    side = int(sys.argv[3])
    litert_torch.convert(program.module(), (torch.zeros(1, 3, side, side),)).export(sys.argv[2])
except Exception as error:
    sys.exit((str(error).strip() or type(error).__name__).splitlines()[0])
"""
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")


def build(source: Source, folder: Path) -> Path:
    """Write `model.tflite`.

    Raises:
        CompressError: the network cannot be exported, or uses an operator that LiteRT lacks.
    """
    import torch

    model, training = source.model, source.model.training
    name, path, program = type(model).__name__, folder / "model.tflite", source.work / "litert.pt2"
    example = torch.zeros(1, 3, source.resolution, source.resolution)
    try:
        with quiet(), torch.no_grad():
            torch.export.save(torch.export.export(model.eval(), (example,)), program)
    except Exception as error:  # the exporter raises whatever the traced code raises
        raise CompressError(f"{name} cannot be exported to LiteRT: {first_line(error)}") from error
    finally:
        model.train(training)
    command = [str(PYTHON), "-c", CONVERT, str(program), str(path), str(source.resolution)]
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=own)
    if reason := conversion_failure(done, path, "the converter"):
        raise CompressError(f"{name} cannot be converted to LiteRT: {reason}")
    return path


def load(path: Path, threads: int | None = None) -> Runner:
    """Make a file ready to run.

    Raises:
        CompressError: the file cannot be read.
    """
    import numpy as np

    interpreter = _interpreter(path, thread_count(threads))
    (given,), (answer,) = interpreter.get_input_details(), interpreter.get_output_details()

    def infer(image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        interpreter.set_tensor(given["index"], image)
        interpreter.invoke()
        return interpreter.get_tensor(answer["index"])  # type: ignore[no-any-return]

    def run(images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.concatenate([infer(np.ascontiguousarray(image[None])) for image in images])

    return run


def coverage(path: Path) -> Coverage:
    """Nothing runs in integer; the file does not tell its MACs."""
    operators = _interpreter(path, 1)._get_ops_details()
    return Coverage(0, sum(each["op_name"] in CONVOLUTIONS for each in operators), 0)


def _interpreter(path: Path, threads: int) -> Any:
    try:
        with quiet(), silent():
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CompressError(f"LiteRT cannot read {path}: {first_line(error)}") from error
    return interpreter
