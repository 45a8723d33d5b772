"""Files of a variant: which of them is shown to be as accurate as the reference, by its own predictions."""

from __future__ import annotations

from compress.efficiency.intervals import (
    Grant,
    PairedDifference,
    exact_upper_bound,
    grant,
    paired_difference,
    relative_error_increase,
)
from compress.results.artifacts import Artifact
from compress.results.savings import Difference, FileSavings, PairedCounts
from compress.results.variant import Variant

PYTORCH = "pytorch"
"""Runtime of the network itself, evaluated in eager PyTorch."""

FLOAT_BITS = 32
NOT_RUN = "it was not run here"
NOT_COMPARED = "its predictions were not compared with the reference's on the same images"


def compare_files(reference: Variant, variant: Variant, tolerance: float) -> tuple[FileSavings, ...]:
    """Compare the predictions of every file of a variant with those of the reference's network in PyTorch.

    The network in PyTorch counts as a file of a float variant. Of a quantized variant it only simulates integer
    arithmetic, and counts where no other file was run.

    Args:
        reference: Reference of the savings.
        variant: A variant, or the reference itself.
        tolerance: Loss of accuracy that counts as equal, a fraction.

    Raises:
        ValueError: When the two were evaluated on another number of images.
    """
    files = [_artifact(reference, variant, artifact, tolerance) for artifact in variant.artifacts]
    simulated = is_quantized(variant) and any(artifact.top1 is not None for artifact in variant.artifacts)
    return tuple(files if simulated else [_network(reference, variant, tolerance), *files])


def is_quantized(variant: Variant) -> bool:
    """Whether a variant computes with fewer bits than FP32."""
    return min(variant.inference.weight_bits, variant.inference.activation_bits) < FLOAT_BITS


def compare(reference: Variant, variant: Variant, right: str | None) -> PairedDifference | None:
    """Compute the difference of the accuracies from one bit per image; None where the predictions are not known.

    Args:
        reference: Reference of the savings.
        variant: A variant.
        right: Bits of one of its files, as in `Accuracy.right`.

    Raises:
        ValueError: When the two were evaluated on another number of images.
    """
    base, own = reference.accuracy, variant.accuracy
    if base.n != own.n:
        raise ValueError(
            f"{reference.id} ({base.correct} of {base.n} right) and {variant.id} ({own.correct} of {own.n}) were not "
            "evaluated on the same images"
        )
    if right is None or base.right is None:
        return None
    theirs, ours = int(base.right, 16), int(right, 16)
    return paired_difference((theirs & ~ours).bit_count(), (ours & ~theirs).bit_count(), base.n)


def as_record(difference: PairedDifference | None, top1: float) -> Difference:
    """Convert a difference for `results.json`, with its exact bound.

    Args:
        difference: Difference of the accuracies; None where it is unknown.
        top1: Accuracy of the reference, a fraction.
    """
    if difference is None:
        return Difference()
    b, c, n = difference.only_reference, difference.only_variant, difference.images
    return Difference(
        paired=PairedCounts(only_reference=b, only_variant=c, images=n),
        accuracy_difference=difference.difference,
        difference_ci95=(difference.low, difference.high),
        exact_upper_bound=exact_upper_bound(b, c, n),
        relative_error_increase=relative_error_increase(difference, top1),
    )


def _network(reference: Variant, variant: Variant, tolerance: float) -> FileSavings:
    own = variant.accuracy
    difference = compare(reference, variant, own.right)
    decision = decide(difference, tolerance)
    return FileSavings(
        runtime=PYTORCH,
        path=None,
        bytes=variant.inference.bytes,
        top1=own.top1,
        ci95=own.ci95,
        granted=decision.granted,
        reason=decision.reason,
        **dict(as_record(difference, reference.accuracy.top1)),
    )


def _artifact(reference: Variant, variant: Variant, artifact: Artifact, tolerance: float) -> FileSavings:
    difference = compare(reference, variant, artifact.right)
    decision = Grant(False, NOT_RUN) if artifact.top1 is None else decide(difference, tolerance)
    return FileSavings(
        runtime=artifact.runtime,
        path=artifact.path,
        bytes=artifact.bytes,
        top1=artifact.top1,
        ci95=artifact.ci95,
        granted=decision.granted,
        reason=decision.reason,
        **dict(as_record(difference, reference.accuracy.top1)),
    )


def decide(difference: PairedDifference | None, tolerance: float) -> Grant:
    """Grant by the interval; refuse where the predictions were not compared."""
    return grant(difference, tolerance) if difference else Grant(False, NOT_COMPARED)
