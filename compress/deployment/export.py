"""Building the artifacts of a variant."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.preprocess import PREPROCESS
from compress.deployment.runtimes import Runtime, require
from compress.models.onnx_export import write_onnx
from compress.utils.checksums import SUMS
from compress.utils.errors import CompressError, UsageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Source:
    """What artifacts are built from.

    Attributes:
        model: A float network, or a graph that torchao's PT2E converted.
        resolution: Side of the images in pixels.
        work: A folder for what several runtimes build from.
        classes: Names, in the order of the network's outputs.
    """

    model: nn.Module
    resolution: int
    work: Path
    classes: tuple[str, ...] = ()

    def onnx(self) -> Path:
        """The network's ONNX file, written at the first call.

        Raises:
            CompressError: the network cannot be exported.
        """
        from compress.quantization.onnx_network import OnnxNetwork

        path = self.work / "model.onnx"
        if isinstance(self.model, OnnxNetwork):
            path.write_bytes(self.model.file)
        elif not path.is_file():
            write_onnx(self.model, self.resolution, path)
        return path


def export(
    model: nn.Module,
    folder: Path,
    runtimes: Sequence[str],
    preprocess: Mapping[str, Any],
    failed: dict[str, str] | None = None,
) -> dict[str, Path]:
    """Write a variant's artifacts, each format into a folder of its own with its `preprocess.json`.

    Args:
        model: A float network, or a graph that torchao's PT2E converted.
        folder: Where the format folders go; those of the same name are replaced.
        runtimes: Names of runtimes.
        preprocess: How images become the network's input, and what its outputs mean: `resolution` (pixels), `mean`,
            `std`, `interpolation`, `classes`, and `stored_resolution` where the images were kept at another side.
        failed: Where it is given, a runtime that cannot be built for is left out, and the reason put here by its name.

    Returns:
        The file to load, by runtime.

    Raises:
        UsageError: a runtime is unknown, or takes no quantized networks and this is one.
        CompressError: a package is missing, or the network cannot be exported.
    """
    needed = [require(name) for name in runtimes]
    _refuse_quantized(model, needed)
    built: dict[str, Path] = {}
    with tempfile.TemporaryDirectory() as work:
        source = Source(model, int(preprocess["resolution"]), Path(work), tuple(preprocess.get("classes", ())))
        for runtime in needed:
            if runtime.FORMAT in built or (failed and runtime.NAME in failed):
                continue
            try:
                built[runtime.FORMAT] = _build(runtime, source, folder / runtime.FORMAT, preprocess)
            except CompressError as error:
                if failed is None:
                    raise
                shutil.rmtree(folder / runtime.FORMAT, ignore_errors=True)
                failed |= {other.NAME: str(error) for other in needed if other.FORMAT == runtime.FORMAT}
    found = zip(runtimes, needed, strict=True)
    return {name: built[runtime.FORMAT] for name, runtime in found if runtime.FORMAT in built}


def _build(runtime: Runtime, source: Source, target: Path, preprocess: Mapping[str, Any]) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    path = runtime.build(source, target)
    text = json.dumps(dict(preprocess), indent=1, ensure_ascii=False)
    (target / PREPROCESS).write_text(text + "\n", encoding="utf-8")
    return path


def _refuse_quantized(model: nn.Module, runtimes: Sequence[Runtime]) -> None:
    from torch.fx import GraphModule

    from compress.quantization.capture import converted
    from compress.quantization.onnx_network import OnnxNetwork

    in_file = isinstance(model, OnnxNetwork)
    if in_file or (isinstance(model, GraphModule) and converted(model)):
        for runtime in runtimes:
            if not runtime.QUANTIZED:
                raise UsageError(f"the runtime {runtime.NAME} takes no quantized networks; export the float one to it")
            if in_file and runtime.QUANTIZED == ("torchao",):
                raise UsageError(f"the runtime {runtime.NAME} takes no network that was quantized as an ONNX file")


def artifact_bytes(path: Path) -> int:
    """Bytes of an artifact: all files of its folder that are needed to run it, without what is told of them."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.name not in (PREPROCESS, SUMS))
