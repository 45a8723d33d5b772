"""Building the artifacts of a variant."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compress.deployment.inputs import PREPROCESS
from compress.deployment.onnx_file import write_onnx
from compress.deployment.runtimes import Runtime, require
from compress.errors import UsageError
from compress.sums import SUMS

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Source:
    """What artifacts are built from.

    Attributes:
        model: A float network, or a graph that torchao's PT2E converted.
        resolution: Side of the images in pixels.
        work: A folder for what several runtimes build from.
    """

    model: nn.Module
    resolution: int
    work: Path

    def onnx(self) -> Path:
        """The network's ONNX file, written at the first call.

        Raises:
            CompressError: the network cannot be exported.
        """
        path = self.work / "model.onnx"
        if not path.is_file():
            write_onnx(self.model, self.resolution, path)
        return path


def export(model: nn.Module, folder: Path, runtimes: Sequence[str], preprocess: Mapping[str, Any]) -> dict[str, Path]:
    """Write a variant's artifacts, each format into a folder of its own with its `preprocess.json`.

    Args:
        model: A float network, or a graph that torchao's PT2E converted.
        folder: Where the format folders go; those of the same name are replaced.
        runtimes: Names of runtimes.
        preprocess: How images become the network's input, and what its outputs mean: `resolution` (pixels), `mean`,
            `std`, `interpolation`, `classes`, and `stored_resolution` where the images were kept at another side.

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
        source = Source(model, int(preprocess["resolution"]), Path(work))
        for runtime in needed:
            if runtime.FORMAT not in built:
                target = folder / runtime.FORMAT
                shutil.rmtree(target, ignore_errors=True)
                target.mkdir(parents=True)
                built[runtime.FORMAT] = runtime.build(source, target)
                text = json.dumps(dict(preprocess), indent=1, ensure_ascii=False)
                (target / PREPROCESS).write_text(text + "\n", encoding="utf-8")
    return {name: built[runtime.FORMAT] for name, runtime in zip(runtimes, needed, strict=True)}


def _refuse_quantized(model: nn.Module, runtimes: Sequence[Runtime]) -> None:
    from torch.fx import GraphModule

    from compress.quantization.capture import converted

    if isinstance(model, GraphModule) and converted(model):
        for runtime in runtimes:
            if not runtime.QUANTIZED:
                raise UsageError(f"the runtime {runtime.NAME} takes no quantized networks; export the float one to it")


def artifact_bytes(path: Path) -> int:
    """Bytes of an artifact: all files of its folder that are needed to run it, without what is told of them."""
    files = [file for file in path.parent.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files if file.name not in (PREPROCESS, SUMS))
