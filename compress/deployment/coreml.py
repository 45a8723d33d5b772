"""Core ML: iPhones, iPads and Macs. An ML program for iOS 17 or macOS 14, for one image, with the classes inside.

Float networks are stored and computed in half precision, which is all that the Neural Engine has. Of quantized ones
Core ML takes our integers as they are: weights and activations of 8 bits, as `quantize` and `dequantize` operators.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.coverage import Coverage
from compress.deployment.runtimes import Runner, not_run_here
from compress.utils.errors import CompressError, first_line
from compress.utils.quiet import quiet, silent

if TYPE_CHECKING:
    from compress.deployment.export import Source

NAME = "coreml"
FORMAT = "coreml"
READS = (".mlpackage",)
ENGINE = "coremltools"
PACKAGES = ("coremltools",)
PROGRAMS = ()
ADD = "pip install 'compress-model[coreml]'"
QUANTIZED = ("torchao",)
PORTABLE = True
ELSEWHERE = "in an app on iOS 17 or macOS 14, or newer"
INPUT = "images"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


def build(source: Source, folder: Path) -> Path:
    """Write `model.mlpackage`: `images` float32 `[1, 3, r, r]`, normalised, to the class and all probabilities.

    Raises:
        CompressError: the network cannot be exported, or uses an operator that Core ML lacks.
    """
    name, path = type(source.model).__name__, folder / "model.mlpackage"
    training = source.model.training
    try:
        with quiet(), silent():
            _convert(source).save(str(path))
    except Exception as error:  # the exporters raise whatever the traced code raises
        raise CompressError(f"{name} cannot be converted to Core ML: {first_line(error)}") from error
    finally:
        source.model.train(training)
    (path / "executorch_debug_handle_mapping.json").unlink(missing_ok=True)
    check(path, source.resolution, source.classes)
    return path


def _convert(source: Source) -> Any:
    import coremltools
    import torch

    class Classifier(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.network(images).softmax(1)  # type: ignore[no-any-return]

    example = torch.zeros(1, 3, source.resolution, source.resolution)
    with torch.no_grad():
        program = torch.export.export(Classifier(source.model.eval()), (example,)).run_decompositions({})
    return coremltools.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=coremltools.target.iOS17,
        classifier_config=coremltools.ClassifierConfig(list(source.classes)),
        skip_model_load=True,
    )


def check(path: Path, resolution: int, classes: tuple[str, ...]) -> None:
    """Read a package back: its input, its classes, and that all its weights are there.

    Raises:
        CompressError: one of them is not as it was asked for, or the package cannot be read.
    """
    try:
        with quiet(), silent():
            from coremltools.models.utils import load_spec

            spec = load_spec(str(path))
        weights = (path / WEIGHTS).stat().st_size
    except Exception as error:  # protobuf raises types of its own
        raise CompressError(f"Core ML's package {path} cannot be read: {first_line(error)}") from error
    inputs = {each.name: list(each.type.multiArrayType.shape) for each in spec.description.input}
    if inputs != {INPUT: [1, 3, resolution, resolution]}:
        raise CompressError(f"{path} takes {inputs}, not {INPUT} of shape {[1, 3, resolution, resolution]}")
    operations = list(_operations(spec))
    for output, (found, name) in enumerate(zip_longest(_classes(operations), classes)):
        if found != name:
            raise CompressError(f"{path} calls output {output} {found!r}, not {name!r}")
    if any(offset >= weights for offset in _offsets(operations)):
        raise CompressError(f"{path} is damaged: its weights are cut short")


def _operations(spec: Any) -> Iterator[Any]:
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            yield from block.operations


def _classes(operations: list[Any]) -> tuple[str, ...]:
    """What the program's classifier calls the outputs, in the order of these."""
    for operation in operations:
        if operation.type == "classify":
            listed = operation.inputs["classes"].arguments[0].value.immediateValue.list.values
            return tuple(each.immediateValue.tensor.strings.values[0] for each in listed)
    return ()


def _offsets(operations: list[Any]) -> Iterator[int]:
    """Where in the file of weights the constants begin."""
    for operation in operations:
        given = [argument.value for each in operation.inputs.values() for argument in each.arguments]
        for value in [*operation.attributes.values(), *given]:
            if value.HasField("blobFileValue"):
                yield value.blobFileValue.offset


def load(path: Path, threads: int | None = None) -> Runner:
    """Say where the package runs.

    Raises:
        CompressError: always.
    """
    raise not_run_here(NAME, ELSEWHERE)


def coverage(path: Path) -> Coverage:
    """Say where that could be known: Core ML chooses on the device what runs where.

    Raises:
        CompressError: always.
    """
    raise not_run_here(NAME, ELSEWHERE)
