"""The whole of `results.json`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Hexadecimal, Record, absent
from compress.results.deployment import Deployment, DeploymentFit
from compress.results.headline import Headline, SavingInMonths
from compress.results.hosts import HostMeasurement
from compress.results.left_out import LeftOutRecord
from compress.results.ood import OodDetection
from compress.results.predictions import ClassChanges, Disagreements
from compress.results.quality import QualityChange
from compress.results.robustness import Robustness
from compress.results.savings import Savings, TrainingEfficiency
from compress.results.variant import Variant

Version = Literal[2, 3]
"""Versions that are read."""
SCHEMA_VERSION: Version = 3
"""Raised when a reader of the version before would break, or take a figure for another one."""

SweepPage = Annotated[str, Field(pattern=r"^\.\./\.\./sweeps/[A-Za-z0-9_.-]+/[a-z]+\.html$")]
"""Address of a page of a sweep, from the folder of a run."""


class RunInfo(Record):
    """The run itself."""

    id: str = Field(description="Name of its folder")
    started: str = Field(description="Start, ISO 8601, UTC")
    made: tuple[str, ...] | None = Field(None, description="Stages, and exports of a variant, that this run made")
    from_store: tuple[str, ...] | None = Field(None, description="Those that the store had from earlier runs")
    wall_s: float | None = absent("Duration of the run, seconds")
    sweep: SweepPage | None = absent("Page of the sweep that the run is a trial of, relative to its folder")


class RecipeRecord(Record):
    """The recipe of the run."""

    name: str = Field(description="Name of the recipe")
    sha256: str = Field(description="SHA-256 of the resolved recipe as JSON with sorted keys")
    resolved: dict[str, Any] = Field(
        description="Every setting that was used, by the schema that `compress-model schema` prints"
    )


class Machine(Record):
    """What of a machine a latency holds for."""

    cpu: str | None
    instructions: tuple[str, ...] | None
    gpu: str | None
    threads: int | None
    cpu_quota: float | None

    def __str__(self) -> str:
        threads = None if self.threads is None else f"{self.threads} threads"
        quota = None if self.cpu_quota is None else f"CPU quota {self.cpu_quota:g}"
        cpu = f"{self.cpu} ({' '.join(self.instructions)})" if self.cpu and self.instructions else self.cpu
        return ", ".join(part for part in (cpu, self.gpu, threads, quota) if part) or "unknown"


class Environment(Record):
    """The machine and its packages."""

    compress: str | None = Field(description="Version of this package")
    python: str = Field(description="Version of Python")
    torch: str | None = Field(description="Version of torch")
    packages: dict[str, str | None] = Field(description="Versions by package; null where it is not installed")
    platform: str | None = Field(None, description="Operating system and C library")
    cpu: str | None = Field(description="Name of the processor")
    instructions: tuple[str, ...] | None = absent("Instruction sets that kernels are chosen by; null where unknown")
    threads: Count | None = Field(description="Threads that latency was measured with")
    cpu_quota: float | None = absent("CPU quota of the container that the run was in, in cores")
    gpu: str | None = Field(description="Name of the GPU that latency was measured on")
    energy_counter: str | None = absent("Energy counter, or why there was none")

    @property
    def machine(self) -> Machine:
        """The kind of machine that latency was measured on."""
        return Machine(
            cpu=self.cpu,
            instructions=self.instructions,
            gpu=self.gpu,
            threads=self.threads,
            cpu_quota=self.cpu_quota,
        )


class DataSummary(Record):
    """The images."""

    name: str = Field(description="Name of the data set")
    classes: tuple[str, ...] = Field(description="Class names in the order of the labels")
    train: Count = Field(description="Labelled images for training")
    unlabeled: Count = Field(description="Unlabelled images for distillation")
    validation: Count = Field(description="Images that every choice is made on")
    test: Count = Field(description="Images that accuracy is measured on; no choice is made on them")
    skipped: Count = Field(description="Files that are not images")
    chance: Fraction | None = Field(None, description="Share of the most frequent class among the test images")
    test_sha256: str | None = Field(
        None, description="SHA-256 of shape, labels and at most 4,096 evenly spaced images of the test split"
    )
    test_labels: Hexadecimal | None = absent(
        "Class index of each image of the test split, each in as many hexadecimal digits as the last index takes"
    )
    left_out: tuple[LeftOutRecord, ...] = Field((), description="What of the source is in no split, by reason")
    held_out: tuple[str, ...] | None = absent("Names of the classes whose images are in no split above")
    remarks: tuple[str, ...] | None = absent(
        "Remarks on the source and the splits: order of classes, missing classes, images that are in two splits"
    )

    def same_images(self, other: DataSummary) -> bool:
        """Whether the test images are known to be the same, in the same order."""
        return self.test_sha256 is not None and self.test_sha256 == other.test_sha256 and self.test == other.test

    def same_data(self, other: DataSummary) -> bool:
        """Whether the test images are the same, or at least the data set's name and classes."""
        return self.same_images(other) or (self.name, self.classes) == (other.name, other.classes)


class Failure(Record):
    """A stage, or a file of an export, that could not be made, or could not be evaluated on further images."""

    stage: str = Field(description="Id of the stage, or STAGE/VARIANT of an export")
    runtime: str | None = absent(
        "Runtime of the file, and its half precision, or pytorch of a network that could not be evaluated; absent "
        "where all of the stage failed"
    )
    reason: str = Field(description="What failed and what to do")


class RunRecord(Record):
    """`results.json`. Fractions, not percent; unknown is null, never 0; times in ms or s, as keys say."""

    schema_version: Version = Field(description="Version of this layout")
    run: RunInfo = Field(description="The run itself")
    command: str = Field(description="Command line of the run")
    recipe: RecipeRecord = Field(description="The recipe")
    environment: Environment = Field(description="The machine and its packages")
    data: DataSummary = Field(description="The images")
    failed: tuple[Failure, ...] | None = absent("What could not be made; the rest of the record is of what there is")
    headline: Headline = Field(description="What the run shows, in figures: the first sentence of its report")
    variants: tuple[Variant, ...] = Field(description="One model per stage")
    efficiency: tuple[Savings, ...] = Field(description="Savings of variants, one entry per reference")
    deployment: Deployment | None = Field(
        None, description="Cost of a million images; null without a deployment in the recipe"
    )
    deployments: tuple[DeploymentFit, ...] = Field((), description="Which variant fits which device")
    hosts: tuple[HostMeasurement, ...] | None = absent(
        "Latency on the machines of `measure.on`, by machine and runtime"
    )
    training_efficiency: tuple[TrainingEfficiency, ...] = Field(
        (), description="Compute to reach an accuracy on validation"
    )
    months: tuple[SavingInMonths, ...] = Field(
        (),
        description="Savings and losses in months of the recipe's trend: of inference where granted, of training at "
        "the variant's own accuracy; none of controls",
    )
    class_changes: tuple[ClassChanges, ...] = Field(
        (), description="Changes by class on the test images, by reference and variant"
    )
    quality_changes: tuple[QualityChange, ...] = Field(
        (), description="Confidence and classes of every network and file against every reference"
    )
    robustness: Robustness | None = absent("Accuracy on corrupted images, where `measure.corruptions` names any")
    ood: OodDetection | None = absent("Out-of-distribution detection, where `measure.ood` names a folder")
    disagreements: Disagreements | None = Field(
        None, description="Test images on which the last distilled variant and its teacher disagree"
    )

    def finished(self, wall_s: float) -> RunRecord:
        """The record with the duration of the run, in seconds."""
        return self.model_copy(update={"run": self.run.model_copy(update={"wall_s": wall_s})})
