"""Time per layer from OpenVINO's performance counters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from compress.deployment.layers import LayerTimes
from compress.deployment.runtime import Array

PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "u8": "int8", "i8": "int8", "u4": "int4", "i4": "int4"}
EXECUTED = "EXECUTED"


class OpenVinoProfiler:
    """A network that counts, compiled for the first batch that it gets."""

    def __init__(self, compile_for: Callable[[tuple[int, ...]], Any]) -> None:
        """Take a function that compiles the network, with counters, for one shape of images."""
        self._compile, self._compiled, self._request = compile_for, None, None
        self._times: dict[str, list[float]] = {}

    def run(self, images: Array) -> None:
        """Run a batch and note the time of each layer."""
        if self._request is None:
            self._compiled = self._compile(images.shape)
            self._request = self._compiled.create_infer_request()
        self._request.infer({0: images}, share_inputs=True)
        for info in self._request.profiling_info:
            if info.status.name == EXECUTED:
                self._times.setdefault(info.node_name, []).append(1000 * info.real_time.total_seconds())

    def finish(self) -> list[LayerTimes]:
        """Return the layers; their order, precision and shape are those of the model that is executed."""
        assert self._compiled is not None
        layers = []
        for node in self._compiled.get_runtime_model().get_ops():
            about = {key: str(value.value) for key, value in node.get_rt_info().items()}
            if times := self._times.get(node.get_friendly_name()):
                kind = about["runtimePrecision"]
                shape = tuple(node.get_output_shape(0))
                layer = LayerTimes(
                    node.get_friendly_name(), about["layerType"], PRECISIONS.get(kind, kind), shape, times
                )
                layers.append((int(about["execOrder"]), layer))
        return [layer for _, layer in sorted(layers, key=lambda pair: pair[0])]
