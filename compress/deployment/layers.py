"""Time per layer, as runtimes tell it: the layers that they execute, after they have fused and reordered the file's.

Artifacts take turns in one process, a run each, so that a slow phase of the machine affects all alike. A runtime takes
time to note the time, so layers are compared with each other, not with latencies of `bench`.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypedDict

from compress.deployment.artifact import Artifact
from compress.deployment.runtime import Array
from compress.deployment.runtimes import find_runtime

Kind = Literal["convolution", "linear", "conversion", "other"]
WARMUP = 3

OPERATORS: dict[str, Kind] = {
    # ONNX Runtime
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"), "convolution"),
    **dict.fromkeys(("Gemm", "FusedGemm", "QGemm", "MatMul", "FusedMatMul", "QLinearMatMul"), "linear"),
    **dict.fromkeys(("MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulNBits"), "linear"),
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"), "conversion"),
    **dict.fromkeys(("ReorderInput", "ReorderOutput", "Transpose"), "conversion"),
    # OpenVINO
    **dict.fromkeys(("Convolution", "GroupConvolution"), "convolution"),
    "FullyConnected": "linear",
    **dict.fromkeys(("Reorder", "Convert", "FakeQuantize"), "conversion"),
    # AOTInductor
    **{"Linear": "linear", "copy": "conversion"},
    # ExecuTorch, which computes 1x1 convolutions as linears
    **dict.fromkeys(("Fully Connected", "Batch Matrix Multiply"), "linear"),
    **dict.fromkeys(("quantize_per_tensor", "dequantize_per_tensor", "_to_dim_order_copy", "Copy"), "conversion"),
}
"""What operators of runtimes do. Conversions change precision or layout only; operators that are not here are other."""


@dataclass(frozen=True)
class LayerTimes:
    """One executed layer.

    Attributes:
        name: The runtime's name of it.
        operator: The runtime's operator.
        precision: What it computes in, such as fp32 or int8; empty where unknown.
        shape: Shape of its output.
        ms: Milliseconds of a run, by the statistic of the profiler.
        weights: Number of its weights, biases aside; None where unknown.
    """

    name: str
    operator: str
    precision: str
    shape: tuple[int, ...]
    ms: float
    weights: int | None = None


class LayerProfiler(Protocol):
    """A loaded artifact whose runtime notes the time of each layer."""

    statistic: Literal["median", "mean"]  # of the runs: what the runtime lets one know

    def run(self, images: Array) -> None:
        """Run a batch, float32 `[b, 3, r, r]`, normalised."""

    def start(self) -> None:
        """Count from here: the runs before were for warming up."""

    def finish(self) -> list[LayerTimes]:
        """Return the layers in the order in which they are executed."""


class LayerRow(TypedDict):
    """One executed layer of an artifact, in order; `share` is its part of the time of all layers.

    `source` is the file's name of a convolution or linear, and `weights` the number of its weights; None where unknown.
    """

    number: int
    name: str
    operator: str
    kind: Kind
    precision: str
    shape: list[int]
    ms: float
    share: float
    source: str | None
    weights: int | None


class LayerTotal(TypedDict):
    """Sums over the layers of an artifact, ms; `run_ms` is the median of whole runs, profiling included.

    `statistic` is that of the layers: ONNX Runtime tells each run; OpenVINO only the mean, and ExecuTorch whole
    microseconds.
    """

    number: int
    statistic: Literal["median", "mean"]
    run_ms: float
    layers_ms: float
    conversions_ms: float
    integer_share: float


class ProfileRecord(TypedDict):
    """Layers of all artifacts at one batch size."""

    batch: int
    runs: int
    layers: list[LayerRow]
    totals: list[LayerTotal]


def profile_layers(artifacts: Sequence[Artifact], batch: int, runs: int, threads: int) -> ProfileRecord:
    """Time the layers of artifacts on this machine, on noise.

    Raises:
        CompressError: a runtime does not tell the time of layers, or a file cannot be read.
    """
    profilers = [find_runtime(each.runtime).profiler(each.path, threads) for each in artifacts]
    images = [each.preprocess.noise(batch) for each in artifacts]
    whole: list[list[float]] = [[] for _ in artifacts]
    order, generator = list(range(len(artifacts))), random.Random(0)
    for turn in range(WARMUP + runs):
        if turn == WARMUP:
            for profiler in profilers:
                profiler.start()
        generator.shuffle(order)
        for index in order:
            started = time.perf_counter()
            profilers[index].run(images[index])
            whole[index].append(1000 * (time.perf_counter() - started))
    rows, totals = [], []
    for number, (profiler, times) in enumerate(zip(profilers, whole, strict=True), 1):
        own = _rows(number, profiler.finish())
        rows += own
        totals.append(_total(number, profiler.statistic, own, statistics.median(times[WARMUP:])))
    return ProfileRecord(batch=batch, runs=runs, layers=rows, totals=totals)


def _rows(number: int, layers: Sequence[LayerTimes]) -> list[LayerRow]:
    whole = sum(layer.ms for layer in layers) or 1.0
    return [
        LayerRow(
            number=number,
            name=layer.name,
            operator=layer.operator,
            kind=OPERATORS.get(layer.operator, "other"),
            precision=layer.precision,
            shape=list(layer.shape),
            ms=layer.ms,
            share=layer.ms / whole,
            source=None,
            weights=layer.weights,
        )
        for layer in layers
    ]


def _total(number: int, statistic: Literal["median", "mean"], rows: Sequence[LayerRow], run_ms: float) -> LayerTotal:
    layers_ms = sum(row["ms"] for row in rows)
    return LayerTotal(
        number=number,
        statistic=statistic,
        run_ms=run_ms,
        layers_ms=layers_ms,
        conversions_ms=sum(row["ms"] for row in rows if row["kind"] == "conversion"),
        integer_share=sum(row["share"] for row in rows if row["precision"] == "int8" and row["kind"] != "conversion"),
    )
