"""LiteRT, formerly TensorFlow Lite, with XNNPACK on the CPU: phones and small boards. Images run one by one.

litert-torch converts the network. It requires a torch with which torchvision does not import, so it has an environment
of its own, made by `scripts/make_litert_environment`. Converting is a process there that is given the exported program;
running a file needs the package ai-edge-litert alone.

INT8 is made from the float file by ai-edge-quantizer, which litert-torch brings. The converter does not take our
quantized graphs: it wants weights that are quantized in the graph, and ours are integers already.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.conversion import convert, exporting
from compress.deployment.coverage import Coverage, products
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime
from compress.utils.errors import CompressError, first_line
from compress.utils.processes import SAFE_PATH
from compress.utils.quiet import quiet, silent
from compress.utils.system import cache_folder, thread_count

if TYPE_CHECKING:
    from torch import Tensor

    from compress.quantization.config import QuantizationConfig

VARIABLE = "COMPRESS_LITERT"  # names the environment, where it is not at its usual place
CONVERT = """\
import sys
try:
    import litert_torch, torch
    program = torch.export.load(sys.argv[1])
    side = int(sys.argv[3])
    litert_torch.convert(program.module(), (torch.zeros(1, 3, side, side),)).export(sys.argv[2])
    if sys.argv[4] == "fp16":
        from ai_edge_quantizer import algorithm_manager, qtyping, quantizer
        half = quantizer.Quantizer(sys.argv[2])
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        half.update_quantization_recipe(
            ".*",
            qtyping.TFLOperationName.ALL_SUPPORTED,
            qtyping.OpQuantizationConfig(weight_tensor_config=weights, explicit_dequantize=True),
            algorithm_manager.AlgorithmName.FLOAT_CASTING,
        )
        half.quantize().export_model(sys.argv[2], overwrite=True)
except Exception as error:
    sys.exit((str(error).strip() or type(error).__name__).splitlines()[0])
"""
INTEGER = "int8"
LINEAR = "FULLY_CONNECTED"
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", LINEAR)


class LiteRt(Runtime):
    """LiteRT on the CPU."""

    format = "litert"
    files = ("model.tflite",)
    reads = (".tflite",)
    engine = "ai_edge_litert"
    packages = ("ai_edge_litert",)
    install = "scripts/make_litert_environment"
    quantizers = ("litert",)
    precisions = ("fp32", "fp16")  # FP16 of the weights; XNNPACK computes in it where the processor can

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
        command = [self.python, "-c", CONVERT, str(program), str(path), str(source.resolution), source.precision]
        failure = f"{type(source.model).__name__} cannot be converted to LiteRT"
        convert(command, path, "the converter", failure, _variables())
        return path

    def quantize_file(self, path: Path, batches: Sequence[Tensor], config: QuantizationConfig) -> None:
        """Quantize a float file in place."""
        from compress.deployment.litert_int8 import quantize_litert

        quantize_litert(path, batches, config, self.python, _variables())

    def import_engine(self) -> Any:
        """Import the interpreter, which the package alone does not."""
        with quiet(), silent():
            from ai_edge_litert import interpreter

        return interpreter

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load a file."""
        import numpy as np

        interpreter = _interpreter(path, thread_count(threads))
        (images_entry,), (logits_entry,) = interpreter.get_input_details(), interpreter.get_output_details()

        def infer(image: Array) -> Array:
            interpreter.set_tensor(images_entry["index"], _quantized(image, images_entry))
            interpreter.invoke()
            return _dequantized(interpreter.get_tensor(logits_entry["index"]), logits_entry)

        def run(images: Array) -> Array:
            return np.concatenate([infer(np.ascontiguousarray(image[None])) for image in images])

        return run

    def steps(self, path: Path) -> list[str]:
        """State the scales of integer images and logits."""
        interpreter = _interpreter(path, 1)
        (images,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()
        if images["dtype"].__name__ != INTEGER:
            return []
        (scale, zero), (out_scale, out_zero) = images["quantization"], logits["quantization"]
        return [
            f"This file takes int8: round(x / {scale:.9g}) + {zero}, clipped to -128 to 127; "
            f"it returns int8: logits are (q - {out_zero}) * {out_scale:.9g}."
        ]

    def coverage(self, path: Path) -> Coverage:
        """Count the operators whose inputs, weights and outputs are integers, with the shapes of their tensors.

        XNNPACK computes files with FP16 weights in FP16 where the processor can, and LiteRT does not tell.
        """
        interpreter = _interpreter(path, 1)
        tensors = {each["index"]: each for each in interpreter.get_tensor_details()}
        found = []
        for operator in interpreter._get_ops_details():
            if operator["op_name"] in LAYERS:
                images, weight = (tensors[index] for index in operator["inputs"][:2])
                made = tensors[operator["outputs"][0]]
                integer = all(each["dtype"].__name__ == INTEGER for each in (images, weight, made))
                output = made["shape"].tolist()  # whose integers would overflow
                # All dimensions: a file is for one image, and in attention the first is not always the batch.
                macs = products(output, weight["shape"].tolist(), output[-1])
                found.append((operator["op_name"] != LINEAR, integer, macs))
        convolutions = [integer for is_convolution, integer, _ in found if is_convolution]
        integer_macs = sum(macs for _, integer, macs in found if integer)
        half_macs = None if any(each["dtype"].__name__ == "float16" for each in tensors.values()) else 0
        total = sum(macs for *_, macs in found)
        return Coverage(sum(convolutions), len(convolutions), integer_macs, total, half_macs)


def _environment() -> Path:
    """Return the folder of the converter's environment; a user without a home has to name it."""
    cache = cache_folder()
    return Path(os.environ.get(VARIABLE) or (cache / "litert" if cache else f"${VARIABLE}"))


def _quantized(images: Array, entry: Any) -> Array:
    """Return images as a file takes them: integers by its scale and zero point, if it does not take float."""
    import numpy as np

    if entry["dtype"].__name__ != INTEGER:
        return images
    scale, zero = entry["quantization"]
    quantized: Array = np.clip(np.rint(images / scale) + zero, -128, 127).astype(np.int8)
    return quantized


def _dequantized(logits: Array, entry: Any) -> Array:
    """Return logits in float."""
    if entry["dtype"].__name__ != INTEGER:
        return logits
    scale, zero = entry["quantization"]
    result: Array = (logits.astype("float32") - zero) * scale
    return result.astype("float32")


def _variables() -> dict[str, str]:
    """Return the environment variables for a process in the converter's environment."""
    own = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**own, **SAFE_PATH}


def _interpreter(path: Path, threads: int) -> Any:
    try:
        with quiet(), silent():
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_path=str(path), num_threads=threads)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CompressError(f"LiteRT cannot read {path}: {first_line(error)}") from error
    return interpreter
