"""LiteRT, formerly TensorFlow Lite, with XNNPACK on the CPU: phones and small boards. Float networks, image by image.

litert-torch converts the network. It requires a torch with which torchvision does not import, so it has an environment
of its own, made by `scripts/make_litert_environment`. Converting is a process there that is given the exported program;
running a file needs the package ai-edge-litert alone.

It does not take our quantized graphs: its converter wants weights that are quantized in the graph, and ours are
integers already.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from compress.deployment.conversion import convert, exporting
from compress.deployment.coverage import Coverage
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent
from compress.utils.system import cache_folder, thread_count

VARIABLE = "COMPRESS_LITERT"  # names the environment, where it is not at its usual place
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


class LiteRt(Runtime):
    """LiteRT on the CPU."""

    format = "litert"
    files = ("model.tflite",)
    reads = (".tflite",)
    engine = "ai_edge_litert"
    packages = ("ai_edge_litert",)
    install = "scripts/make_litert_environment"

    def __init__(self, name: str, device: str | None = None) -> None:
        super().__init__(name, device)
        self.python = str(_environment() / "bin" / "python")
        self.programs = (self.python,)

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write `model.tflite`."""
        import torch

        path, program = folder / self.files[0], source.work / "litert.pt2"
        example = torch.zeros(1, 3, source.resolution, source.resolution)
        with exporting(source.model, "exported to LiteRT"):
            torch.export.save(torch.export.export(source.model, (example,)), program)
        command = [self.python, "-c", CONVERT, str(program), str(path), str(source.resolution)]
        own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
        failure = f"{type(source.model).__name__} cannot be converted to LiteRT"
        convert(command, path, "the converter", failure, own)
        return path

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a file."""
        import numpy as np

        interpreter = _interpreter(path, thread_count(threads))
        (images_entry,), (logits_entry,) = interpreter.get_input_details(), interpreter.get_output_details()

        def infer(image: Array) -> Array:
            interpreter.set_tensor(images_entry["index"], image)
            interpreter.invoke()
            return interpreter.get_tensor(logits_entry["index"])  # type: ignore[no-any-return]

        def run(images: Array) -> Array:
            return np.concatenate([infer(np.ascontiguousarray(image[None])) for image in images])

        return run

    def coverage(self, path: Path) -> Coverage:
        """Nothing runs in integer; the file does not have its MACs."""
        operators = _interpreter(path, 1)._get_ops_details()
        return Coverage(0, sum(each["op_name"] in CONVOLUTIONS for each in operators), 0)


def _environment() -> Path:
    """Return the folder of the converter's environment; a user without a home has to name it."""
    cache = cache_folder()
    return Path(os.environ.get(VARIABLE) or (cache / "litert" if cache else f"${VARIABLE}"))


def _interpreter(path: Path, threads: int) -> Any:
    try:
        with quiet(), silent():
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CompressError(f"LiteRT cannot read {path}: {first_line(error)}") from error
    return interpreter
