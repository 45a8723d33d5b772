"""The files that stages and benchmarks leave in the store."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, TypeAdapter

from compress.results.accuracy import Accuracy
from compress.results.artifacts import Artifact, RuntimeChoice
from compress.results.base import Count, Fraction, Record, absent
from compress.results.embeddings import Embeddings
from compress.results.inference import (
    Batch,
    EnergyRow,
    Inference,
    LatencyRow,
    PeakMemoryBasis,
    Precision,
    Resolution,
    Runtime,
    Threads,
)
from compress.results.methods import Pruning, Quantization, Sparsity
from compress.results.quality import Quality, QualityChange
from compress.results.training import Ledger

ARTIFACTS = TypeAdapter(tuple[Artifact, ...])
"""`artifacts.json`, which an export leaves in the store: the files of one variant."""
ROWS = "artifacts.json"


def read_artifacts(folder: Path) -> tuple[Artifact, ...]:
    """Read what an export left in its folder of the store."""
    return ARTIFACTS.validate_json((folder / ROWS).read_bytes())


def logits_file(folder: Path, artifact: Artifact, split: str) -> Path:
    """Return where an export stores the logits of a file on a split, float32 `[images, classes]`."""
    return folder / "logits" / f"{artifact.runtime}-{artifact.precision}-{split}.npy"


def predictions_file(folder: Path, name: str) -> Path:
    """Return where the classes that a network or file predicts for corrupted images are stored, by its name."""
    return folder / f"{name}.npy"


def runnable_artifacts(folder: Path) -> list[tuple[Artifact, Path]]:
    """Return the artifacts of an export that run on this machine, with their paths in the store."""
    files = [(row, Path(row.path)) for row in read_artifacts(folder) if not row.not_run]
    return [(row, folder / "artifacts" / path.parent.name / path.name) for row, path in files]


class VariantMetrics(Record):
    """`metrics.json`, which every stage that makes a variant leaves in the store."""

    accuracy: Accuracy = Field(description="Top-1 on the test split")
    validation: Accuracy | None = absent("Top-1 on the validation split")
    inference: Inference = Field(description="Cost of inference that follows from the network alone")
    training: Ledger = Field(description="Training ledger")
    preprocess: str | None = absent("How an image becomes its input, in one line")
    remarks: tuple[str, ...] | None = absent("What was noticed when its weights were loaded")
    pruning: Pruning | None = absent("Of a pruned variant")
    sparsity: Sparsity | None = absent("Of a sparsified variant")
    quantization: Quantization | None = absent("Of a quantized variant")
    embeddings: Embeddings | None = absent("Of an embedding student, on the test split")


class ValidationCheck(Record):
    """Loss of a file on the validation split against PyTorch."""

    loss: float = Field(description="Top-1 lost; a fraction")
    agreement: Fraction = Field(description="Share of images with PyTorch's prediction")
    n: Count = Field(description="Images of the split")


class RuntimeChecks(Record):
    """`auto.json`, which an export with `runtimes: auto` leaves in the store."""

    validation: dict[str, ValidationCheck] = Field(description="Loss on validation by runtime, and half precision")
    left_out: dict[str, str] = Field(description="Runtimes that cannot run the variant, with the reason")


FAILED = "failed.json"


class FailedFiles(Record):
    """`failed.json`, which an export leaves in the store where it could not make all files of a variant."""

    reasons: dict[str, str] = Field(description="Why a file could not be made, by runtime")


class StoredQuality(Record):
    """`quality.json`: predictions beyond top-1 of a run's networks and files; null where logits are not finite."""

    networks: dict[str, Quality | None] = Field(description="Of the networks in PyTorch, by variant")
    files: dict[str, Quality | None] = Field(description="Of the files, by variant and name of the file")
    changes: tuple[QualityChange, ...] = Field(description="Against every reference")


class LatencyMeasurements(Record):
    """`latency.json`: what one run of the latency benchmark found, by variant id."""

    latency: dict[str, tuple[LatencyRow, ...]] = Field(description="Latency by variant")
    choices: dict[str, tuple[RuntimeChoice, ...]] = Field({}, description="Of `runtimes: auto`, by variant")
    peak_memory_bytes: dict[str, Count | None] = Field(description="Peak memory by variant")
    peak_memory_basis: dict[str, PeakMemoryBasis] = Field({}, description="Setting of it by variant")
    gpu: str | None = Field(description="Name of the GPU")


class EnergyMeasurement(Record):
    """Energy of one variant in one runtime by a counter; the value is null where it drew no more than idle power."""

    runtime: Runtime
    precision: Precision
    batch: Batch
    threads: Threads
    resolution: Resolution
    value: float | None = Field(description="Joules per image")
    method: str | None = Field(description="Name of the counter")
    idle_w: float = Field(description="Idle power that was subtracted, watts")
    seconds: float = Field(description="Duration of the measurement, seconds")
    images: Count = Field(description="Images inferred in that time")

    def row(self) -> EnergyRow | None:
        """The row of `results.json`; None where the value is null."""
        if self.value is None or self.method is None:
            return None
        return EnergyRow.model_validate(self.model_dump())


class EnergyMeasurements(Record):
    """`energy.json`: what one run of the energy benchmark found."""

    counter: str = Field(description="Name of the counter")
    energy: dict[str, tuple[EnergyMeasurement, ...]] = Field(description="Energy by variant")
