"""Building the artifacts of a variant."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compress.deployment.preprocess_file import PREPROCESS, PreprocessFile
from compress.deployment.runtime import ExportSource, Runtime
from compress.deployment.runtimes import require
from compress.quantization.config import QuantizationConfig
from compress.registry import quantizer
from compress.utils.checksums import SUMS
from compress.utils.errors import CompressError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


Calibration = tuple[Sequence["Tensor"], QuantizationConfig]
"""The calibration set in batches `[b, 3, r, r]`, normalised, and settings."""


def export(
    model: nn.Module,
    folder: Path,
    runtimes: Sequence[str],
    preprocess: PreprocessFile,
    failed: dict[str, str] | None = None,
    opset: int | None = None,
    calibration: Calibration | None = None,
) -> dict[str, Path]:
    """Write a variant's artifacts, each format into a folder of its own; returns the file to load by runtime.

    Args:
        folder: Parent of the format folders, each with its `preprocess.json`; those of the same name are replaced.
        opset: Opset of ONNX files, from 17 to 20; None for the default.
        calibration: If given, runtimes quantize their files of the float network `model` with it.
        failed: If given, a runtime whose file cannot be built is left out, and the reason is put here under its name.

    Raises:
        UsageError: a runtime is unknown, or does not take quantized networks of this kind.
        CompressError: a package is missing, or the network cannot be exported.
    """
    required = [require(name) for name in runtimes]
    _refuse_quantized(model, required)
    built: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as work:
        source = ExportSource(model, preprocess["resolution"], Path(work), tuple(preprocess.get("classes", ())), opset)
        for runtime in required:
            if runtime.format in built or (failed and runtime.name in failed):
                continue
            try:
                built[runtime.format] = _build(runtime, source, folder / runtime.format, preprocess, calibration)
            except CompressError as error:
                if failed is None:
                    raise
                shutil.rmtree(folder / runtime.format, ignore_errors=True)
                failed |= {other.name: str(error) for other in required if other.format == runtime.format}
    return {runtime.name: built[runtime.format] for runtime in required if runtime.format in built}


def _build(
    runtime: Runtime, source: ExportSource, target: Path, preprocess: PreprocessFile, calibration: Calibration | None
) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    path = runtime.build(source, target)
    if calibration:
        runtime.quantize_file(path, *calibration)
    stated: PreprocessFile = {**preprocess, "needs": runtime.needs(path)}
    if further := runtime.steps(path):
        stated["steps"] = [*stated.get("steps", ()), *further]
    text = json.dumps(stated, indent=1, ensure_ascii=False)
    (target / PREPROCESS).write_text(text + "\n", encoding="utf-8")
    return path


def _refuse_quantized(model: nn.Module, runtimes: Sequence[Runtime]) -> None:
    from torch.fx import GraphModule

    from compress.models.onnx_network import OnnxClassifier, OnnxNetwork
    from compress.quantization.capture import converted, method_of

    if isinstance(model, OnnxClassifier) and not model.quantized:
        for runtime in runtimes:
            if not runtime.from_onnx:
                raise UsageError(
                    f"the runtime {runtime.name} cannot be built from an ONNX file; export the network in PyTorch to it"
                )
        return
    in_file = isinstance(model, OnnxNetwork)
    if not in_file and not (isinstance(model, GraphModule) and converted(model)):
        return
    for runtime in runtimes:
        if not runtime.quantizers:
            raise UsageError(
                f"the runtime {runtime.name} does not take quantized networks; export the float network to it"
            )
        able = [method for method in runtime.quantizers if quantizer(method).in_file == in_file]
        if not able or (isinstance(model, GraphModule) and method_of(model) not in able):
            kind = "quantized as ONNX files" if in_file else f"quantized by {method_of(model)}"
            methods = " or ".join(runtime.quantizers)
            raise UsageError(f"the runtime {runtime.name} does not take networks {kind}; quantize with {methods}")


def artifact_bytes(path: Path) -> int:
    """Size of an artifact in bytes: all files in its folder that are needed to run it."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.name not in (PREPROCESS, SUMS))
