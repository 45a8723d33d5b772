"""Inference cost of a variant compared with the reference's: doublings, and the settings they are taken from."""

from __future__ import annotations

from compress.efficiency.doublings import doublings, ratio
from compress.results.inference import Inference, MeasuredInference
from compress.results.savings import Doublings, EnergyBasis, LatencyBasis

FLOAT_BITS = 32


def inference_doublings(reference: MeasuredInference, variant: MeasuredInference) -> Doublings:
    """Compute the doublings of inference efficiency, per cost.

    Raises:
        ValueError: When MACs do not match the bit operations, which FLOPs in their place would not.
    """
    for inference in (reference, variant):
        _refuse_flops(inference)
    latency, energy = latency_basis(reference, variant), energy_basis(reference, variant)
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


def latency_basis(reference: MeasuredInference, variant: MeasuredInference) -> LatencyBasis | None:
    """Choose the pair of latencies that the doublings of latency are taken from.

    Of the rows that both have in the same runtime, batch and threads: those of the largest batch, and of these the one
    in which the variant has the lowest median. Each network takes images at its own resolution. The ratio is computed
    from the interleaved ratios (which share the state of the machine) where both rows have one, otherwise from the two
    medians.

    Returns:
        The pair, with medians per batch; None where the two have no row in common.
    """
    pairs = [
        (base, own)
        for own in variant.latency
        for base in reference.latency
        if (own.runtime, own.batch, own.threads) == (base.runtime, base.batch, base.threads)
    ]
    if not pairs:
        return None
    base, own = min(pairs, key=lambda pair: (-pair[1].batch, pair[1].p50_ms, pair[0].p50_ms))
    interleaved = ratio(own.ratio_to_reference, base.ratio_to_reference)
    return LatencyBasis(
        runtime=own.runtime,
        precision=own.precision,
        batch=own.batch,
        threads=own.threads,
        resolution=own.resolution,
        reference_precision=base.precision,
        reference_ms=base.p50_ms,
        variant_ms=own.p50_ms,
        ratio=interleaved or base.p50_ms / own.p50_ms,
    )


def energy_basis(reference: MeasuredInference, variant: MeasuredInference) -> EnergyBasis | None:
    """Choose the pair of energies that the doublings of energy are taken from.

    Of the rows that both have by the same method, in the same runtime, batch and threads: those of the largest batch,
    and of these the one in which the variant takes the least. Measured and estimated energy are never compared.

    Returns:
        The pair, in joules per image; None where the two have no row in common.
    """
    pairs = [
        (base, own)
        for own in variant.energy_j.rows
        for base in reference.energy_j.rows
        if (own.method, own.runtime, own.batch, own.threads) == (base.method, base.runtime, base.batch, base.threads)
    ]
    if not pairs:
        return None
    base, own = min(pairs, key=lambda pair: (-pair[1].batch, pair[1].value, pair[0].value))
    return EnergyBasis(
        runtime=own.runtime,
        precision=own.precision,
        batch=own.batch,
        method=own.method,
        reference_precision=base.precision,
        reference_j=base.value,
        variant_j=own.value,
        ratio=base.value / own.value,
    )
