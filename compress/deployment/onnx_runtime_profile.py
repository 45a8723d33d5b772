"""Time per layer from ONNX Runtime's profile."""

from __future__ import annotations

import json
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

from compress.deployment.layers import LayerTimes
from compress.deployment.runtime import Array

PRECISIONS = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "uint8": "int8", "int8": "int8"}
IN_INTEGER = ("DynamicQuantizeMatMul", "QuantizeLinear", "DynamicQuantizeLinear")
"""Operators whose first input is float, and their result integer."""
SUFFIX = "_kernel_time"


class OnnxRuntimeProfiler:
    """A session that writes a profile, which is read when it ends."""

    statistic: Literal["median", "mean"] = "median"

    def __init__(self, open_session: Any, options: Any) -> None:
        """Open a session.

        Args:
            open_session: Opens one with options.
            options: Options of the session.
        """
        self._work = tempfile.TemporaryDirectory()
        options.enable_profiling, options.profile_file_prefix = True, str(Path(self._work.name) / "profile")
        self._session = open_session(options)
        self._input = self._session.get_inputs()[0].name
        self._runs = self._warmup = 0

    def run(self, images: Array) -> None:
        """Run a batch."""
        self._runs += 1
        self._session.run(None, {self._input: images})

    def start(self) -> None:
        """Leave out the runs so far."""
        self._warmup = self._runs

    def finish(self) -> list[LayerTimes]:
        """End the session and read its profile."""
        with self._work:
            return layers_of(json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8")), self._warmup)


def layers_of(profile: list[dict[str, Any]], warmup: int = 0) -> list[LayerTimes]:
    """Return the layers of a profile, whose events have microseconds, without the first runs of each.

    Nodes that share a name differ by their index.
    """
    events: dict[str, list[dict[str, Any]]] = {}
    for event in profile:
        if event.get("cat") == "Node" and event["name"].endswith(SUFFIX):
            events.setdefault(event["args"]["node_index"], []).append(event)
    ordered = sorted(events.values(), key=lambda runs: int(runs[0]["ts"]))
    return [_layer(runs[warmup:]) for runs in ordered if runs[warmup:]]


def _layer(runs: list[dict[str, Any]]) -> LayerTimes:
    name, about = runs[0]["name"].removesuffix(SUFFIX), runs[0]["args"]
    operator = about["op_name"]
    given, made = (_first(about.get(key)) for key in ("input_type_shape", "output_type_shape"))
    kind = "int8" if operator in IN_INTEGER else PRECISIONS.get(given[0], given[0])
    return LayerTimes(
        name or operator, operator, kind, made[1], statistics.median(event["dur"] for event in runs) / 1000
    )


def _first(values: list[dict[str, list[int]]] | None) -> tuple[str, tuple[int, ...]]:
    """Type and shape of the first of some tensors."""
    for value in values or ():
        for kind, shape in value.items():
            return kind, tuple(shape)
    return "", ()
