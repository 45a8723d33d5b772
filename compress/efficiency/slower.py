"""Quantized files that are slower than the FP32 file of the same network in the same runtime, as measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from compress.efficiency.files import is_quantized
from compress.efficiency.timing import Ratio, latency_ratio
from compress.results.inference import LatencyRow
from compress.results.variant import Variant
from compress.utils.precision import HALF


class AgainstFloat(NamedTuple):
    """A quantized file's latency at one batch size against that of its FP32 file; above 1 the quantized is faster."""

    runtime: str
    batch: int
    ratio: Ratio
    float_variant: str  # the variant of the FP32 file

    @property
    def slower(self) -> bool:
        """Whether it is slower, by the whole 95% interval."""
        return is_slower(self.ratio)


def is_slower(ratio: Ratio) -> bool:
    """Return whether all of the 95% interval is below 1; a ratio without an interval shows nothing."""
    return ratio.high is not None and ratio.high < 1


def against_float(variants: Sequence[Variant]) -> dict[str, tuple[AgainstFloat, ...]]:
    """Compare the files of every quantized variant with the nearest float variant that it was made from.

    Returns:
        By variant, one entry per runtime and batch size that both were timed in with the same threads and resolution.
    """
    by_id = {variant.id: variant for variant in variants}
    found = {}
    for variant in variants:
        origin = _float_origin(variant, by_id)
        if is_quantized(variant) and origin:
            rows = rows_against(origin.inference.latency, variant.inference.latency)
            found[variant.id] = tuple(AgainstFloat(*key, ratio, origin.id) for key, ratio in rows.items())
    return found


def rows_against(reference: Sequence[LatencyRow], own: Sequence[LatencyRow]) -> dict[tuple[str, int], Ratio]:
    """Compare rows of latency in the same runtime, batch, threads and resolution; by runtime and batch."""
    base = {_setting(row): row for row in reference if row.precision not in HALF}
    return {(row.runtime, row.batch): latency_ratio(base[_setting(row)], row) for row in own if _setting(row) in base}


def slow_settings(found: Sequence[AgainstFloat]) -> set[tuple[str, int]]:
    """Return runtime and batch size of the entries that are slower."""
    return {(entry.runtime, entry.batch) for entry in found if entry.slower}


def ever_slower(found: Sequence[AgainstFloat]) -> set[str]:
    """Return the runtimes in which the quantized file is slower at some batch size: not to be named without one."""
    return {runtime for runtime, _ in slow_settings(found)}


def _float_origin(variant: Variant, by_id: Mapping[str, Variant]) -> Variant | None:
    """Return the nearest variant in FP32 that a variant was made from."""
    origin = by_id.get(variant.parent or "")
    while origin and is_quantized(origin):
        origin = by_id.get(origin.parent or "")
    return origin


def _setting(row: LatencyRow) -> tuple[str, int, int, int]:
    return row.runtime, row.batch, row.threads, row.resolution
