"""Files of a variant: which of them is shown to be as accurate as the reference, by its own predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from compress.efficiency.grants import grant
from compress.efficiency.intervals import Grant, PairedDifference, exact_upper_bound, relative_error_increase
from compress.efficiency.metric import Metric
from compress.registry import PYTORCH
from compress.results.base import Interval
from compress.results.quality import Quality
from compress.results.savings import Difference, FileSavings, PairedCounts
from compress.results.variant import Variant
from compress.utils.precision import file_name

FileKey = tuple[str, str, str | None]
"""Variant, runtime and precision: what distinguishes a network or file from the others of its run."""

FLOAT_BITS, INTEGER_BITS = 32, 8
TOP1 = Metric()
IS_REFERENCE = "it is the reference"
SAME_AS_REFERENCE = "it is the reference's network, right on the same images"
NOT_RUN = "it was not run here"
NOT_COMPARED = "its predictions were not compared with the reference's on the same images"


def compare_files(
    reference: Variant, variant: Variant, tolerance: float, metric: Metric = TOP1
) -> tuple[FileSavings, ...]:
    """Compare the predictions of every file of a variant with those of the reference.

    The network in PyTorch counts as a file of a float variant. Of a quantized variant it only simulates integer
    arithmetic, and counts where no other file was run. The reference stands for itself: its network in PyTorch, or the
    most accurate of its files if it is quantized.

    Args:
        reference: Reference of the savings.
        variant: A variant, or the reference itself.
        tolerance: Loss of accuracy that counts as equal, a fraction.
        metric: The accuracy that is compared.

    Raises:
        ValueError: When the two were evaluated on another number of images.
    """
    base, files = base_file(reference), files_of(variant)
    if reference.accuracy.n != variant.accuracy.n:
        own, theirs = variant.accuracy, reference.accuracy
        raise ValueError(
            f"{reference.id} ({theirs.correct} of {theirs.n} right) and {variant.id} ({own.correct} of {own.n} right) "
            "were not evaluated on the same images"
        )
    distinct = len({right for file in files if (right := metric.right(file.right, file.quality))})
    found = [_compare(base, file, tolerance, max(1, distinct), reference.accuracy.n, metric) for file in files]
    if is_same_model(reference, variant):
        found = [_of_same_model(base, file, each, metric) for file, each in zip(files, found, strict=True)]
    return tuple(found)


def _of_same_model(base: File, file: File, found: FileSavings, metric: Metric) -> FileSavings:
    """Grant a file of the reference that is it, or predicts like it: few images are no reason for doubt."""
    before, after = (metric.right(each.right, each.quality) for each in (base, file))
    if before != after or (after is None and file.path != base.path):
        return found
    reason = IS_REFERENCE if file.path == base.path else SAME_AS_REFERENCE
    return found.model_copy(update={"granted": True, "granted_adjusted": True, "reason": reason})


def is_same_model(first: Variant, second: Variant) -> bool:
    """Return whether two records are of one model: one record, or two runs of what has the same key in the store.

    Ids do not tell: in runs with other settings, a stage of the same id makes another model.
    """
    return first is second or (first.stage_key is not None and first.stage_key == second.stage_key)


@dataclass(frozen=True)
class File:
    """A file with its predictions, or the network itself in PyTorch, which has no path."""

    runtime: str
    precision: str | None
    path: str | None
    bytes: int
    top1: float | None
    ci95: Interval | None
    right: str | None
    quality: Quality | None


def files_of(variant: Variant) -> list[File]:
    """Return the files of a variant that count, its network in PyTorch first unless that only simulates them."""
    artifacts = [
        File(a.runtime, a.precision, a.path, a.bytes, a.top1, a.ci95, a.right, a.quality) for a in variant.artifacts
    ]
    own = variant.accuracy
    network = File(PYTORCH, None, None, variant.inference.bytes, own.top1, own.ci95, own.right, variant.quality)
    simulated = is_quantized(variant) and any(file.top1 is not None for file in artifacts)
    return artifacts if simulated else [network, *artifacts]


def base_file(reference: Variant) -> File:
    """Return what stands for a reference: its network, or the most accurate of its files if it is quantized."""
    files = [file for file in files_of(reference) if file.top1 is not None]
    return max(files, key=lambda file: file.top1 or 0) if is_quantized(reference) else files[0]


def file_keys(variants: Sequence[Variant]) -> list[FileKey]:
    """Return the keys of the files of variants that count."""
    return [(variant.id, file.runtime, file.precision) for variant in variants for file in files_of(variant)]


def base_key(reference: str, variants: Sequence[Variant]) -> FileKey:
    """Return the key of what stands for a reference."""
    stands = base_file(next(variant for variant in variants if variant.id == reference))
    return reference, stands.runtime, stands.precision


def _compare(base: File, file: File, tolerance: float, tests: int, n: int, metric: Metric) -> FileSavings:
    """Compare one file with the reference's.

    Of several files with different predictions, each could be granted by chance: a variant is granted by a file that
    also holds when all of them count as tests (Bonferroni).
    """
    decision, difference, adjusted = Grant(False, NOT_RUN if file.top1 is None else NOT_COMPARED), None, False
    before, after = (metric.right(each.right, each.quality) for each in (base, file))
    if difference := metric.difference(before, after, n):
        decision = grant(difference, tolerance)
        strict = metric.difference(before, after, n, 1 - 0.05 / tests)
        adjusted = decision.granted and strict is not None and grant(strict, tolerance).granted
    return FileSavings(
        runtime=file.runtime,
        precision=file.precision,
        path=file.path,
        bytes=file.bytes,
        top1=file.top1,
        ci95=file.ci95,
        granted=decision.granted,
        granted_adjusted=adjusted,
        reason=decision.reason,
        **dict(as_record(difference, metric.value(base.top1, base.quality))),
    )


class HasFile(Protocol):
    """A record of a file, or of a measurement of it."""

    @property
    def runtime(self) -> str: ...

    @property
    def precision(self) -> str | None: ...


def name_of(record: HasFile) -> str:
    """Name the file of a record among those of its variant."""
    return file_name(record.runtime, record.precision)


def counts_for_reference(file: FileSavings) -> bool:
    """Return whether a file of the reference counts as what a variant has to beat: unless it is shown to be worse.

    To be granted it would have to be shown to be as accurate; where few images cannot show it, leaving out the
    reference's fastest file would be in favour of every variant.
    """
    return file.granted_adjusted or (file.difference_ci95 is not None and file.difference_ci95[0] <= 0)


def deciding_file(files: Sequence[FileSavings]) -> FileSavings:
    """Return the file that a variant is granted by; without one, the one that comes closest to it."""
    compared = [file for file in files if file.difference_ci95]
    closest = min(compared, key=lambda file: file.difference_ci95[1] if file.difference_ci95 else 1, default=files[0])
    return next((file for file in files if file.granted_adjusted), closest)


def is_quantized(variant: Variant) -> bool:
    """Whether a variant computes with fewer bits than FP32."""
    return min(variant.inference.weight_bits, variant.inference.activation_bits) < FLOAT_BITS


def executed_bit_operations(variant: Variant, path: str | None) -> float | None:
    """Return the bit operations per image of a file of a variant: in 8 bits what its runtime executes in integer.

    Floating point counts as FP32, whatever format the machine chooses, because it does so for any file. Never fewer
    than those of the network. None of a quantized variant's file whose execution is unknown, and of its network in
    PyTorch, which only simulates integers.

    Args:
        variant: The variant.
        path: Path of the file; None for the network in PyTorch.
    """
    inference = variant.inference
    file = next((each for each in variant.artifacts if path and each.path == path), None)
    if not is_quantized(variant):
        return inference.bit_operations
    if file is None:
        return None
    share = file.integer_macs_share
    if file.macs_by_precision is not None:
        share = file.macs_by_precision.get("int8", 0.0)
    if share is None:
        return None
    executed = inference.macs * (share * INTEGER_BITS**2 + (1 - share) * FLOAT_BITS**2)
    return max(executed, inference.bit_operations)


def as_record(difference: PairedDifference | None, accuracy: float | None) -> Difference:
    """Convert a difference for `results.json`, with its exact bound.

    Args:
        difference: Difference of the accuracies; None where it is unknown.
        accuracy: Accuracy of the reference, a fraction; None where it is unknown.
    """
    if difference is None:
        return Difference()
    b, c, n = difference.only_reference, difference.only_variant, difference.images
    return Difference(
        paired=PairedCounts(only_reference=b, only_variant=c, images=n),
        accuracy_difference=difference.difference,
        difference_ci95=(difference.low, difference.high),
        exact_upper_bound=None if difference.by_class else exact_upper_bound(b, c, n),
        relative_error_increase=None if accuracy is None else relative_error_increase(difference, accuracy),
    )
