"""Floating-point precisions that a network is exported in."""

from __future__ import annotations

FLOATS = ("fp32", "fp16", "bf16")
HALF = ("fp16", "bf16")


def by_preference(precision: str | None) -> int:
    """Order the files of a variant: the usual one, which is FP32 or integer, comes before those in half precision."""
    return HALF.index(precision) + 1 if precision in HALF else 0


def file_name(runtime: str, precision: str | None) -> str:
    """Name a file among those of a variant: by its runtime, and by its precision where that is half.

    Integer networks and those in FP32 have one file per runtime.
    """
    return f"{runtime} {precision}" if precision in HALF else runtime
