"""Time per layer from OpenVINO's performance counters.

They are means over all runs of a compiled network, in whole microseconds, so the mean of the runs after the warm-up is
found from two readings.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

from compress.deployment.layers import LayerTimes
from compress.deployment.runtime import Array

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8", "u4": "int4", "i4": "int4"}
EXECUTED = "EXECUTED"


class OpenVinoProfiler:
    """A network that counts, compiled for the first batch that it gets."""

    statistic: Literal["median", "mean"] = "mean"

    def __init__(self, compile_for: Callable[[tuple[int, ...]], Any]) -> None:
        """Take a function that compiles the network, with counters, for one shape of images."""
        self._compile = compile_for
        self._compiled: Any = None
        self._request: Any = None
        self._runs = self._warmup = 0
        self._before: dict[str, float] = {}

    def run(self, images: Array) -> None:
        """Run a batch."""
        if self._request is None:
            self._compiled = self._compile(images.shape)
            self._request = self._compiled.create_infer_request()
        self._request.infer({0: images}, share_inputs=True)
        self._runs += 1

    def start(self) -> None:
        """Leave out the runs so far."""
        self._warmup, self._before = self._runs, self._means()

    def finish(self) -> list[LayerTimes]:
        """Return the layers; their order, precision and shape are those of the model that is executed."""
        means, layers = self._means(), []
        for node in self._compiled.get_runtime_model().get_ops():
            name = node.get_friendly_name()
            if name in means:
                ms = mean_after(means[name], self._runs, self._before.get(name, 0.0), self._warmup)
                about = {key: str(value.value) for key, value in node.get_rt_info().items()}
                kind = PRECISIONS.get(about["runtimePrecision"], about["runtimePrecision"])
                weights = math.prod(node.get_input_shape(1)) if node.get_input_size() > 1 else None
                layer = LayerTimes(name, about["layerType"], kind, tuple(node.get_output_shape(0)), ms, weights)
                layers.append((int(about["execOrder"]), layer))
        return [layer for _, layer in sorted(layers, key=lambda pair: pair[0])]

    def _means(self) -> dict[str, float]:
        """Return the mean of all runs so far in milliseconds, by layer."""
        if self._request is None:
            return {}
        executed = [info for info in self._request.profiling_info if info.status.name == EXECUTED]
        return {info.node_name: 1000 * info.real_time.total_seconds() for info in executed}


def mean_after(mean: float, runs: int, before: float, warmup: int) -> float:
    """Return the mean of the runs after the first `warmup`, from the means of all `runs` and of those; at least 0."""
    return max(0.0, (runs * mean - warmup * before) / (runs - warmup))
