"""Building the artifacts of a variant."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compress.deployment.preprocess_file import PREPROCESS, PreprocessFile, with_embeddings
from compress.deployment.runtime import ExportSource, FileOptions, Runtime
from compress.deployment.runtimes import find_runtime, require
from compress.quantization.config import QuantizationConfig
from compress.registry import quantizer
from compress.utils.errors import CompressError, UsageError
from compress.utils.precision import file_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from compress.models.class_list import ClassList

Calibration = tuple[Sequence["Tensor"], QuantizationConfig]
"""The calibration set in batches `[b, 3, r, r]`, normalised, and settings."""


class Target(NamedTuple):
    """A file to write: for a runtime, in a precision. Runtimes of one format share a file."""

    runtime: str
    precision: str | None = None  # of a float network; None for the runtime's usual one, and of quantized networks

    @property
    def name(self) -> str:
        """Name among the files of a variant."""
        return file_name(self.runtime, self.precision)

    @property
    def folder(self) -> str:
        """Name of the file's folder: its format, and its precision where that is not the usual one."""
        runtime = find_runtime(self.runtime)
        return f"{runtime.format}-{self.precision}" if self._is_other else runtime.format

    @property
    def _is_other(self) -> bool:
        return self.precision not in (None, find_runtime(self.runtime).precisions[0])


def export(
    model: nn.Module,
    folder: Path,
    runtimes: Sequence[str],
    preprocess: PreprocessFile,
    precision: str | None = None,
    opset: int | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Path]:
    """Write a variant's artifacts, each format into a folder of its own; returns the file to load by runtime.

    Args:
        folder: Parent of the format folders, each with its `preprocess.json`; those of the same name are replaced.
        precision: fp32, fp16 or bf16, for float networks; None for the usual one of each runtime.
        opset: Opset of ONNX files, from 17 to 20; None for the default.
        calibration: If given, runtimes quantize their files of the float network `model` with it.

    Raises:
        UsageError: a runtime is unknown, or does not take quantized networks of this kind, or this precision.
        CompressError: a package is missing, or the network cannot be exported.
    """
    targets = [Target(name, precision) for name in runtimes]
    built = export_files(model, folder, targets, preprocess, options=FileOptions(opset), calibration=calibration)
    return {target.runtime: path for target, path in built.items()}


def export_files(
    model: nn.Module,
    folder: Path,
    targets: Sequence[Target],
    preprocess: PreprocessFile,
    failed: dict[Target, str] | None = None,
    options: FileOptions | None = None,
    calibration: Calibration | None = None,
) -> dict[Target, Path]:
    """Write a variant's artifacts, as `export`, for runtimes and precisions; returns the file to load of each.

    Args:
        failed: If given, what cannot be built is left out, and the reason is put here.
        options: Further settings of the files; None for the defaults.
        calibration: As `export`.

    Raises:
        UsageError: as `export`.
        CompressError: as `export`.
    """
    required = {target: require(target.runtime) for target in targets}
    model, classes = _split(model)
    if classes:
        preprocess = with_embeddings(preprocess)
    _refuse_quantized(model, list(required.values()))
    _refuse_precisions(model, required)
    built: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as work:
        outputs = () if classes else tuple(preprocess.get("classes", ()))
        options, side = options or FileOptions(), preprocess["resolution"]
        source = ExportSource(model, side, Path(work), outputs, options, embeds=classes is not None)
        refused = _refused_in_half(model, required)
        for target, runtime in required.items():
            if target.folder in built or (failed and target in failed):
                continue
            own = replace(source, precision=target.precision or runtime.precisions[0])
            try:
                if refused and own.precision == "fp16":
                    raise CompressError(refused)
                built[target.folder] = _build(runtime, own, folder / target.folder, preprocess, calibration)
                if classes:
                    classes.write(folder / target.folder)
            except CompressError as error:
                if failed is None:
                    raise
                shutil.rmtree(folder / target.folder, ignore_errors=True)
                failed |= {other: str(error) for other in required if other.folder == target.folder}
    return {target: built[target.folder] for target in required if target.folder in built}


def _split(model: nn.Module) -> tuple[nn.Module, ClassList | None]:
    """Return the network whose file is written, and the class list beside the file of an embedding student."""
    from compress.models.embedding import EmbeddingNetwork, encoder_of

    return encoder_of(model), model.classes if isinstance(model, EmbeddingNetwork) else None


def _build(
    runtime: Runtime, source: ExportSource, target: Path, preprocess: PreprocessFile, calibration: Calibration | None
) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    path = runtime.build(source, target)
    if calibration:
        runtime.quantize_file(path, *calibration)
    stated: PreprocessFile = {**runtime.describe(preprocess), "needs": runtime.needs(path)}
    if further := runtime.steps(path):
        stated["steps"] = [*stated.get("steps", ()), *further]
    if not calibration and not is_quantized(source.model):
        stated["precision"] = source.precision
    text = json.dumps(stated, indent=1, ensure_ascii=False)
    (target / PREPROCESS).write_text(text + "\n", encoding="utf-8")
    return path


def is_quantized(model: nn.Module) -> bool:
    """Whether a network to export computes in integer."""
    from torch.fx import GraphModule

    from compress.models.onnx_network import OnnxClassifier, OnnxNetwork
    from compress.quantization.capture import converted

    if isinstance(model, OnnxNetwork):
        return not isinstance(model, OnnxClassifier) or model.quantized
    return isinstance(model, GraphModule) and converted(model)


def _refused_in_half(model: nn.Module, required: Mapping[Target, Runtime]) -> str | None:
    """Return why the network cannot be written in FP16, for those of the files that are; None if it can."""
    from compress.models.half_range import refuse_large_weights

    written = {target.precision or runtime.precisions[0] for target, runtime in required.items()}
    if "fp16" not in written or is_quantized(model):
        return None
    try:
        refuse_large_weights(model)
    except CompressError as error:
        return str(error)
    return None


def _refuse_precisions(model: nn.Module, required: Mapping[Target, Runtime]) -> None:
    for target, runtime in required.items():
        if target.precision is None:
            continue
        if target.precision not in runtime.precisions:
            able = ", ".join(runtime.precisions)
            raise UsageError(f"the runtime {runtime.name} writes {able}, not {target.precision}")
        if target.precision != "fp32" and is_quantized(model):
            raise UsageError(f"a quantized network keeps its integers; export the float network in {target.precision}")


def _refuse_quantized(model: nn.Module, runtimes: Sequence[Runtime]) -> None:
    from torch.fx import GraphModule

    from compress.models.onnx_network import OnnxClassifier, OnnxNetwork
    from compress.quantization.capture import method_of

    if isinstance(model, OnnxClassifier) and not model.quantized:
        for runtime in runtimes:
            if not runtime.from_onnx:
                raise UsageError(
                    f"the runtime {runtime.name} cannot be built from an ONNX file; export the network in PyTorch to it"
                )
        return
    if not is_quantized(model):
        return
    in_file = isinstance(model, OnnxNetwork)
    for runtime in runtimes:
        if not runtime.quantizers:
            raise UsageError(
                f"the runtime {runtime.name} does not take quantized networks; export the float network to it"
            )
        able = [method for method in runtime.quantizers if quantizer(method).in_file == in_file]
        if not able or (isinstance(model, GraphModule) and method_of(model) not in able):
            kind = "quantized as ONNX files" if in_file else f"quantized by {method_of(model)}"
            named = [method for method in runtime.quantizers if quantizer(method).restore]
            remedy = f"quantize with {' or '.join(named)}" if named else "use a recipe with `method: auto`"
            raise UsageError(f"the runtime {runtime.name} does not take networks {kind}; {remedy}")
