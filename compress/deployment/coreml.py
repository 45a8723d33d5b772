"""Core ML: iPhones, iPads and Macs. An ML program for iOS 17 or macOS 14, for one image, with the classes inside.

Float networks are stored and computed in half precision, the only one that the Neural Engine has, unless FP32 is asked
for, which runs on the CPU and the GPU. Of quantized networks Core ML takes our integers as they are: weights and
activations of 8 bits, as `quantize` and `dequantize` operators. Embedding students give embeddings, without classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import Any

from compress.data.stated import EMBEDDING, PROBABILITIES
from compress.deployment.conversion import exporting
from compress.deployment.preprocess_file import PreprocessFile, for_one_image
from compress.deployment.runtime import ExportOnlyRuntime, ExportSource
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent

INPUT = "images"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


class CoreMl(ExportOnlyRuntime):
    """Core ML; coremltools writes the package."""

    format = "coreml"
    files = ("model.mlpackage",)
    reads = (".mlpackage",)
    engine = "coremltools"
    packages = ("coremltools",)
    install = "pip install 'compress-model[coreml]'"
    quantizers = ("torchao",)
    precisions = ("fp16", "fp32")
    runs_on = "in an app on iOS 17 or macOS 14, or newer"
    experimental = True

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Write the package: `images` float32 `[1, 3, r, r]`, normalised, to the class and all probabilities.

        That of an embedding student gives the embedding `[1, width]`.
        """
        path = folder / self.files[0]
        with exporting(source.model, "converted to Core ML"), silent():
            _convert(source).save(str(path))
        (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
        check(path, source.resolution, source.classes)
        return path

    def describe(self, content: PreprocessFile) -> PreprocessFile:
        if content.get("output") == EMBEDDING:
            return for_one_image(content)
        last = "The outputs are the name of the class and the probabilities of all classes by name."
        return {**for_one_image(content, last), "output": PROBABILITIES}

    def needs(self, path: Path) -> list[str]:
        """State the oldest systems that read the package."""
        return ["iOS 17 or macOS 14, or newer"]


def _convert(source: ExportSource) -> Any:
    import coremltools
    import torch

    # With a name for its input, whatever that is called in the network.
    class Program(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            outputs: torch.Tensor = self.network(images)
            return outputs if source.embeds else outputs.softmax(1)

    example = torch.zeros(1, 3, source.resolution, source.resolution)
    program = torch.export.export(Program(source.model), (example,)).run_decompositions({})
    return coremltools.convert(
        program,
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32 if source.precision == "fp32" else None,  # None: FP16
        minimum_deployment_target=coremltools.target.iOS17,
        outputs=[coremltools.TensorType(name=EMBEDDING)] if source.embeds else None,
        classifier_config=None if source.embeds else coremltools.ClassifierConfig(list(source.classes)),
        skip_model_load=True,
    )


def check(path: Path, resolution: int, classes: tuple[str, ...]) -> None:
    """Read a package back and check its input, its classes, and that its weights are complete.

    Raises:
        CompressError: one of them is not as requested, or the package cannot be read.
    """
    try:
        with quiet(), silent():
            from coremltools.models.utils import load_spec

            spec = load_spec(str(path))
        weights = (path / WEIGHTS).stat().st_size
    except Exception as error:  # protobuf raises types of its own
        raise CompressError(f"the Core ML package {path} cannot be read: {first_line(error)}") from error
    inputs = {each.name: list(each.type.multiArrayType.shape) for each in spec.description.input}
    if inputs != {INPUT: [1, 3, resolution, resolution]}:
        raise CompressError(f"{path} takes {inputs}, not {INPUT} of shape {[1, 3, resolution, resolution]}")
    operations = list(_operations(spec))
    for output, (stored, expected) in enumerate(zip_longest(_classes(operations), classes)):
        if stored != expected:
            raise CompressError(f"{path} names output {output} {stored!r}, not {expected!r}")
    if any(offset >= weights for offset in _offsets(operations)):
        raise CompressError(f"{path} is damaged: its weights are truncated")


def _operations(spec: Any) -> Iterator[Any]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def _classes(operations: list[Any]) -> tuple[str, ...]:
    """Class names in the program, in the order of its outputs."""
    for operation in operations:
        if operation.type == "classify":
            listed = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
            return tuple(each.immediateValue.tensor.strings.values[0] for each in listed)
    return ()


def _offsets(operations: list[Any]) -> Iterator[int]:
    """Offsets of the constants in the weights file."""
    for operation in operations:
        given = [argument.value for each in operation.inputs.values() for argument in each.arguments]
        for value in [*operation.attributes.values(), *given]:
            if value.HasField("blobFileValue"):
                yield value.blobFileValue.offset
