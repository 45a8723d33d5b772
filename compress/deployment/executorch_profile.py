"""Time per layer from ExecuTorch's event trace: its own kernels, and the operators that XNNPACK runs.

XNNPACK tells whole microseconds, so that small layers have none in many runs, and neither shapes nor weights. Its names
hold what it computes in, such as `Convolution (NHWC, QC8) IGEMM #1`; the numbers start again in each of the graphs that
it is given.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from compress.deployment.layers import LayerTimes
from compress.deployment.runtime import Array
from compress.utils.quiet import quiet, silent

BLOCK, WHOLES = "Execute", ("DELEGATE_CALL", "OPERATOR_CALL", "Method::execute")  # of which the others are parts
KERNEL = "native_call_"
PRECISIONS = {"F32": "fp32", "F16": "fp16", "QS8": "int8", "QU8": "int8", "QC8": "int8", "QD8": "int8"}


class ExecuTorchProfiler:
    """A program that notes the time of each operator of each image."""

    statistic: Literal["median", "mean"] = "mean"

    def __init__(self, module: Any) -> None:
        """Take a module of ExecuTorch's Python bindings that was loaded with its event trace on."""
        self._module = module
        self._images = self._warmup = 0  # in all runs, and in those that are left out
        self._batch = 1

    def run(self, images: Array) -> None:
        """Run a batch, image by image."""
        import torch

        self._batch = len(images)
        for image in torch.split(torch.from_numpy(np.ascontiguousarray(images)), 1):
            self._module.forward([image])
        self._images += len(images)

    def start(self) -> None:
        """Leave out the runs so far."""
        self._warmup = self._images

    def finish(self) -> list[LayerTimes]:
        """Read the trace."""
        with tempfile.TemporaryDirectory() as work, quiet(), silent():
            from executorch.devtools import Inspector

            trace = str(Path(work) / "trace.etdp")
            self._module.write_etdump_result_to_file(trace, str(Path(work) / "outputs.bin"))
            blocks = Inspector(etdump_path=trace).event_blocks
        events = [(each.name, each.perf_data.raw) for block in blocks if block.name == BLOCK for each in block.events]
        return list(layers_of(events, self._warmup, self._batch))


def layers_of(events: Iterable[tuple[str, Sequence[float]]], warmup: int = 0, batch: int = 1) -> Iterator[LayerTimes]:
    """Yield the layers of a trace.

    Args:
        events: Names, and milliseconds for each image.
        warmup: Number of images to leave out.
        batch: Number of images of a run.
    """
    for name, times in events:
        if name not in WHOLES and times[warmup:]:
            operator, precision = _parts(name)
            ms = batch * statistics.fmean(times[warmup:])
            yield LayerTimes(name.removeprefix(KERNEL), operator, precision, (), ms)


def _parts(name: str) -> tuple[str, str]:
    """Return the operator of an event, and what it computes in, empty where the name does not say."""
    if name.startswith(KERNEL):
        return name.removeprefix(KERNEL).partition(".")[0], ""
    operator, _, rest = name.partition(" (")
    types = [each.strip()[:3] for each in rest.partition(")")[0].split(",")]
    return operator, next((PRECISIONS[each] for each in types if each in PRECISIONS), "")
