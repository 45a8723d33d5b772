"""Inference cost of a variant compared with the reference's: doublings, and the files that they are taken from."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

from compress.efficiency.doublings import doublings, ratio
from compress.efficiency.files import FLOAT_BITS, name_of
from compress.efficiency.timing import latency_ratio
from compress.results.inference import EnergyRow, Inference, LatencyRow, MeasuredInference
from compress.results.savings import Doublings, EnergyBasis, LatencyBasis

Row = TypeVar("Row", LatencyRow, EnergyRow)


def inference_doublings(
    reference: MeasuredInference,
    variant: MeasuredInference,
    latency: LatencyBasis | None = None,
    energy: EnergyBasis | None = None,
) -> Doublings:
    """Compute the doublings of inference efficiency, per cost.

    Raises:
        ValueError: When MACs do not match the bit operations, which FLOPs in their place would not.
    """
    for inference in (reference, variant):
        _refuse_flops(inference)
    return Doublings(
        macs=doublings(ratio(reference.macs, variant.macs)),
        bit_operations=doublings(ratio(reference.bit_operations, variant.bit_operations)),
        latency=doublings(latency.ratio) if latency else None,
        energy=doublings(energy.ratio) if energy else None,
    )


def _refuse_flops(inference: Inference) -> None:
    """Bit operations per MAC lie between the product of the lowest bit widths and 32 x 32. FLOPs fall outside."""
    if not inference.macs or not inference.bit_operations:
        return
    low, high = float((inference.weight_bits or 1) * (inference.activation_bits or 1)), FLOAT_BITS**2
    per_mac = inference.bit_operations / inference.macs
    if not low <= per_mac <= high:
        raise ValueError(
            f"{per_mac:g} bit operations per MAC are not between {low:g} and {high}: "
            "are these MACs FLOPs, two of which are one MAC?"
        )


def latency_basis(
    reference: Sequence[LatencyRow],
    variant: Sequence[LatencyRow],
    reference_files: Collection[str],
    variant_files: Collection[str],
    slow: Collection[tuple[str, int]] = (),
) -> LatencyBasis | None:
    """Compare the fastest file of the reference that counts with the fastest granted file of the variant.

    Both at the largest batch that both were timed at, whichever files are fast there, with the same number of threads;
    each network takes images at its own resolution.

    Args:
        reference: Latency of the reference.
        variant: Latency of the variant.
        reference_files: Names of the reference's files that count.
        variant_files: Names of the variant's files that are granted.
        slow: Runtimes and batches in which the variant's files are not to be deployed.

    Returns:
        The two rows, with medians per batch; None where there is no such pair.
    """
    pair = _best_pair(
        reference,
        variant,
        lambda row: (row.batch, row.threads),
        lambda row: row.p50_ms,
        lambda row: name_of(row) in reference_files,
        lambda row: name_of(row) in variant_files and (row.runtime, row.batch) not in slow,
    )
    if pair is None:
        return None
    base, own = pair
    found = latency_ratio(base, own)
    return LatencyBasis(
        runtime=own.runtime,
        precision=own.precision,
        batch=own.batch,
        threads=own.threads,
        resolution=own.resolution,
        reference_runtime=base.runtime,
        reference_precision=base.precision,
        reference_ms=base.p50_ms,
        variant_ms=own.p50_ms,
        ratio=found.ratio,
        ratio_ci95=None if found.low is None or found.high is None else (found.low, found.high),
    )


def energy_basis(
    reference: Sequence[EnergyRow],
    variant: Sequence[EnergyRow],
    reference_files: Collection[str],
    variant_files: Collection[str],
) -> EnergyBasis | None:
    """Compare the granted files of reference and variant that take the least energy; as `latency_basis`.

    Measured and estimated energy are never compared.
    """
    pair = _best_pair(
        reference,
        variant,
        lambda row: (row.method, row.batch, row.threads),
        lambda row: row.value,
        lambda row: name_of(row) in reference_files,
        lambda row: name_of(row) in variant_files,
    )
    if pair is None:
        return None
    base, own = pair
    return EnergyBasis(
        runtime=own.runtime,
        precision=own.precision,
        batch=own.batch,
        method=own.method,
        reference_runtime=base.runtime,
        reference_precision=base.precision,
        reference_j=base.value,
        variant_j=own.value,
        ratio=base.value / own.value,
    )


def _best_pair(
    reference: Sequence[Row],
    variant: Sequence[Row],
    setting: Callable[[Row], object],
    cost: Callable[[Row], float],
    counts: Callable[[Row], bool],
    may_win: Callable[[Row], bool],
) -> tuple[Row, Row] | None:
    """Return the cheapest rows of both in one setting, at the largest batch that both have in any file.

    The batch is chosen before the files, which would otherwise choose the batch that suits them.
    """
    pairs = [(base, own) for base in reference for own in variant if setting(base) == setting(own)]
    batch = max((own.batch for _, own in pairs), default=None)
    best = [(base, own) for base, own in pairs if own.batch == batch and counts(base) and may_win(own)]
    return min(best, key=lambda pair: (cost(pair[0]), cost(pair[1])), default=None)
