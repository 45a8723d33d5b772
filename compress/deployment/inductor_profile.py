"""Time per kernel of a network that AOTInductor compiled to note it, from PyTorch's profiler.

A call of a network is one event, its kernels are those below it: C++ that Inductor wrote, named after the operators
that it fused, and calls of oneDNN, with the shapes of their arguments. Shapes of results are not told.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from compress.deployment.layers import LayerTimes
from compress.deployment.runtime import Array, Runner
from compress.utils.quiet import silent

CALL = "AOTIModelContainerRunner"  # begins the name of the event of a call
FUSED = re.compile(r"(?:graph_\d+_)?cpp_fused(?:_(?P<operators>\w+?))?_\d+$")
SHIM = re.compile(r"^aoti_torch_(?:cpu_)?_*(?:mkldnn__+|mkl_)?")
CONVERSIONS = {"quantize", "dequantize", "per", "tensor", "channel", "clone", "to", "copy", ""}
"""Words in the names of fused kernels that only change precision or layout; such kernels may have no name at all."""


@dataclass(frozen=True)
class Kernel:
    """An event of a call: its name, the shapes of its arguments, and milliseconds."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    ms: float


class InductorProfiler:
    """A loaded package whose kernels PyTorch's profiler times.

    Each run has a profile of its own, as a process has one at a time; to start one takes about half a millisecond.
    """

    statistic: Literal["median", "mean"] = "median"

    def __init__(self, run: Runner, parts: Callable[[int], Sequence[str]]) -> None:
        """Take a loaded package, and the networks that it calls for a batch, in order."""
        self._run, self._parts = run, parts
        self._started = False
        self._profiles: list[tuple[Sequence[str], Any]] = []  # of each run, with the networks that it called

    def run(self, images: Array) -> None:
        """Run a batch."""
        if not self._started:
            self._run(images)
            return
        from torch.profiler import ProfilerActivity, profile

        with silent(), profile(activities=[ProfilerActivity.CPU], record_shapes=True) as noted:
            self._run(images)
        self._profiles.append((self._parts(len(images)), noted))

    def start(self) -> None:
        """Leave out the runs so far."""
        self._started = True

    def finish(self) -> list[LayerTimes]:
        """Read the profiles."""
        return layers_of(zip(names, calls_of(noted.events()), strict=True) for names, noted in self._profiles)


def calls_of(events: Iterable[Any]) -> Iterator[list[Kernel]]:
    """Yield the kernels of each call of a network, in order, from the events of PyTorch's profiler."""
    calls = sorted((event for event in events if event.name.startswith(CALL)), key=lambda call: call.time_range.start)
    for call in calls:
        below = sorted(call.cpu_children, key=lambda event: event.time_range.start)
        # Of the dispatcher's operators, aten::..., only those that a kernel of another name calls do work.
        yield [
            Kernel(event.name, tuple(map(tuple, event.input_shapes or ())), event.cpu_time_total / 1000)
            for event in below
            if not event.name.startswith("aten::")
        ]


def layers_of(runs: Iterable[Iterable[tuple[str, Sequence[Kernel]]]]) -> list[LayerTimes]:
    """Return the layers of runs, each of which is the networks that it called, with their kernels.

    The time of a layer in a run is the sum over the calls of its network.
    """
    kernels: dict[tuple[str, int], Kernel] = {}
    times: list[dict[tuple[str, int], float]] = []
    for calls in runs:
        times.append(defaultdict(float))
        for network, called in calls:
            for place, kernel in enumerate(called):
                times[-1][network, place] += kernel.ms
                kernels.setdefault((network, place), kernel)
    return [_layer(kernel, statistics.median(run[key] for run in times)) for key, kernel in kernels.items()]


def _layer(kernel: Kernel, ms: float) -> LayerTimes:
    if fused := FUSED.match(kernel.name):
        operators = fused["operators"] or "copy"
        converts = set(operators.split("_")) <= CONVERSIONS
        return LayerTimes(operators, "copy" if converts else "fused", "", (), ms)
    name = SHIM.sub("", kernel.name)
    precision = "int8" if name.startswith("q") else "fp32"
    for operator, rank in (("conv", 4), ("linear", 2), ("addmm", 2)):
        # The weight is the last argument of its rank, after the images and what is added to the result.
        if operator in name:
            weights = [math.prod(shape) for shape in kernel.shapes if len(shape) == rank]
            kind = "Convolution" if operator == "conv" else "Linear"
            return LayerTimes(name, kind, precision, (), ms, weights[-1] if weights else None)
    return LayerTimes(name, name, "", (), ms)
