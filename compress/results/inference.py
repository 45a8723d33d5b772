"""Cost of inference: MACs, size, latency, memory and energy of one variant."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record, absent

Runtime = Annotated[str, Field(description="Runtime")]
Precision = Annotated[
    str, Field(description="fp32, fp16, bf16, int8, or int8/int4 where linear layers have 4-bit weights")
]
Batch = Annotated[Count, Field(description="Batch size, images")]
Threads = Annotated[Count, Field(description="Threads of the runtime")]
Resolution = Annotated[Count, Field(description="Side of the square input, pixels")]


class LatencyRow(Record):
    """Latency of one variant in one runtime at one batch size, interleaved with all others in several processes."""

    runtime: Runtime
    precision: Precision
    batch: Batch
    threads: Threads
    resolution: Resolution
    p50_ms: float = Field(description="Median latency of one batch, milliseconds: the geometric mean of process_p50_ms")
    p99_ms: float | None = Field(
        description="99th percentile of single timings in all processes, milliseconds; null with fewer than 300"
    )
    timings: Count | None = Field(None, description="Single timings of a batch, over all processes")
    process_p50_ms: tuple[float, ...] = Field((), description="Median latency in each fresh process, milliseconds")
    rounds_ms: tuple[tuple[float, ...], ...] = Field((), description="Median of each round by process, milliseconds")
    autocorrelation: float | None = Field(
        None, description="Lag-1 autocorrelation of the rounds of a process, the mean over processes"
    )
    split: bool = Field(False, description="Whether processes differ by more than their rounds explain: several modes")
    other_cores: tuple[float, ...] | None = Field(
        None, description="Cores that other work used on average, while each process ran; null where unknown"
    )
    ratio_to_reference: float | None = Field(
        description="p50_ms of the recipe's first reference in the same runtime and batch, divided by p50_ms"
    )
    ratio_ci95: Interval | None = Field(
        description="95% interval of the ratio over processes and rounds; over rounds only with one process"
    )


class EnergyRow(Record):
    """Energy of one image in one runtime, measured or estimated."""

    value: float = Field(description="Joules per image")
    method: str = Field(description="Starts with 'measured' or 'estimated' and names the source")
    runtime: Runtime
    precision: Precision
    batch: Batch
    threads: Threads
    idle_w: float | None = Field(None, description="Idle power that was subtracted, watts")
    seconds: float | None = Field(None, description="Duration of the measurement, seconds")
    images: Count | None = Field(None, description="Images inferred in that time")


class InferenceEnergy(Record):
    """Energy of one image in the runtime where it is lowest; null where it is neither measured nor estimated."""

    value: float | None = Field(description="Joules per image")
    method: str | None = Field(description="Starts with 'measured' or 'estimated' and names the source")
    runtime: Runtime | None = Field(None, description="Runtime with the lowest energy")
    precision: Precision | None = None
    batch: Batch | None = None
    threads: Threads | None = None
    idle_w: float | None = Field(None, description="Idle power that was subtracted, watts")
    seconds: float | None = Field(None, description="Duration of the measurement, seconds")
    images: Count | None = Field(None, description="Images inferred in that time")
    rows: tuple[EnergyRow, ...] = Field((), description="Energy in every runtime, all measured or all estimated")


class Carbon(Record):
    """Emissions of the electricity that inference takes."""

    g_per_million_images: float = Field(description="Grams of CO2 equivalent per million images")
    g_per_kwh: float = Field(description="Carbon intensity of the grid from the recipe, grams per kilowatt-hour")
    method: str = Field(description="Method of the energy that it is computed from")


class LayerWidths(Record):
    """Layers of one kind that share the same bit widths."""

    kind: str = Field(description="convolution, linear, or product of activations, which has no weight")
    weight_bits: Count | None = Field(description="Bits of the stored weights; 32 is float")
    activation_bits: Count = Field(description="Bits of the layer's inputs; 32 is float")
    layers: Count = Field(description="Number of these layers")
    macs_share: Fraction = Field(description="Their share of the MACs of one image")


class PeakMemoryBasis(Record):
    """Setting in which peak memory was measured."""

    runtime: Runtime
    batch: Batch
    precision: str | None = absent("Precision of the file where that is fp16 or bf16")
    threads: Count | None = absent("Threads of the process; null where unknown")


class Inference(Record):
    """Cost of inference that follows from the network alone."""

    macs: Count = Field(description="Multiply-accumulates per image")
    bit_operations: Count = Field(
        description="MACs x weight bits x activation bits per image, summed over layers: by the widths that the "
        "network is made for, whatever executes it"
    )
    uncounted_operators: tuple[str, ...] = Field((), description="Operators of unknown MACs, not included in macs")
    params: Count = Field(description="Parameters")
    bytes: Count = Field(description="Size of the stored weights, bytes")
    weight_bits: Count = Field(description="Lowest bit width of stored weights among the quantized layers")
    activation_bits: Count = Field(description="Lowest bit width of activations among the quantized layers")
    widths: tuple[LayerWidths, ...] | None = absent("Layers of a quantized variant by kind and bit width")
    quantized_convs: Count = Field(description="Convolutions with integer weights")
    total_convs: Count = Field(description="All convolutions")


class MeasuredInference(Inference):
    """Cost of inference with what was measured on the machine."""

    latency: tuple[LatencyRow, ...] = Field(description="Latency, interleaved with all other variants")
    peak_memory_bytes: Count | None = Field(
        None, description="Peak resident memory of a process that runs the largest batch"
    )
    peak_memory_basis: PeakMemoryBasis | None = Field(None, description="Setting of peak_memory_bytes")
    energy_j: InferenceEnergy = Field(description="Energy per image in the runtime where it is lowest")
    carbon: Carbon | None = Field(None, description="Emissions of that energy; null without energy or intensity")
