"""Deployable files of a variant, and the choice of a runtime among them."""

from __future__ import annotations

from pydantic import Field

from compress.results.base import Count, Fraction, Hexadecimal, Interval, Record, absent
from compress.results.embeddings import Embeddings
from compress.results.inference import Precision
from compress.results.quality import Quality


class Artifact(Record):
    """A deployable file and its accuracy in its own runtime; all null where the runtime is not on this machine."""

    runtime: str = Field(description="Runtime that the file is for")
    format: str = Field(description="File format")
    precision: Precision | None = Field(None, description="Precision that the file is written in, whatever runs it")
    path: str = Field(description="Path within the folder of the run")
    bytes: Count = Field(description="Size of the file, or files, in bytes")
    top1: Fraction | None = Field(None, description="Top-1 in the runtime on the whole test split")
    ci95: Interval | None = Field(None, description="Wilson 95% score interval of top1")
    right: Hexadecimal | None = absent("Predictions in the runtime, as `right` of the variant's accuracy")
    quality: Quality | None = absent("Predictions beyond top-1")
    embeddings: Embeddings | None = absent("Of a file that gives embeddings, in the runtime on the test split")
    top1_agreement: Fraction | None = Field(None, description="Share of test images with PyTorch's prediction")
    max_abs_diff: float | None = Field(None, description="Largest absolute difference of the logits from PyTorch's")
    integer_convs: Count | None = Field(None, description="Convolutions that the runtime executes in integer")
    total_convs: Count | None = Field(None, description="All convolutions of the file")
    integer_macs_share: Fraction | None = Field(
        None, description="Share of the MACs of convolutions and linears that the runtime executes in integer"
    )
    method: str | None = absent(
        "Quantization method of the file. If it is not the variant's, the file was made from the variant's float "
        "parent, whose predictions are PyTorch's here"
    )
    temperature: float | None = absent("Temperature, fitted on validation, that the file's logits were divided by")
    calibration_macs: Count | None = absent("MACs of the calibration for this method, where it is not the variant's")
    macs_by_precision: dict[str, Fraction] | None = Field(
        None,
        description="Share of the MACs of convolutions and linears by the precision that the runtime executes them in, "
        "read from its own graph: fp32, fp16, bf16 or int8; null where the runtime does not expose it",
    )
    casts: Count | None = Field(None, description="Conversions between floating-point types in the executed graph")
    needs: tuple[str, ...] = Field((), description="Oldest versions of programs that read the file")
    not_run: str | None = absent("Why the file is untested: its runtime is not on this machine")


class RuntimeCandidate(Record):
    """A file that `runtimes: auto` compared."""

    runtime: str = Field(description="Runtime")
    precision: Precision | None = Field(None, description="Precision of the file")
    p50_ms: float = Field(description="Median latency of one batch, milliseconds")
    ratio_to_choice: float | None = Field(description="Median of the chosen runtime divided by p50_ms")
    ratio_ci95: Interval | None = Field(description="95% interval of the ratio over processes and rounds")
    validation_loss: float = Field(description="Validation top-1 lost against PyTorch; a fraction")
    validation_agreement: Fraction = Field(description="Share of validation images with PyTorch's prediction")
    holds: bool = Field(description="Whether it loses no more than allowed_loss")
    slower_than_fp32: bool | None = absent("True where it is slower than the FP32 file there: it is not chosen")


class RuntimeChoice(Record):
    """The fastest file that holds the accuracy at one batch size, of `runtimes: auto`."""

    batch: Count = Field(description="Batch size, images")
    runtime: str | None = Field(
        description="Chosen runtime; null where no file holds the accuracy, or all that do are slower than in FP32"
    )
    precision: Precision | None = Field(None, description="Precision of the chosen file")
    tied: tuple[str, ...] = Field(
        description="Runtimes that are as fast within the interval, with the precision where that is half"
    )
    allowed_loss: Fraction = Field(description="Validation top-1 that a file may lose")
    candidates: tuple[RuntimeCandidate, ...] = Field(description="All files that were compared")
    left_out: dict[str, str] = Field(description="Runtimes that cannot run the variant, with the reason")
