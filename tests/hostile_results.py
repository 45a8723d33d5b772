"""Results in which every text is an attack."""

from __future__ import annotations

from typing import Any

ENUMERATED = {"last", "validation", "test", "inference", "training", "variant", "baseline", "at least", "top1"}
HEXADECIMAL = ("right", "top5_right", "test_labels")
"""Keys whose texts are refused where they are anything else."""


def everywhere(value: Any, markup: str) -> Any:
    """Append markup to every text that the format does not enumerate."""
    if isinstance(value, dict):
        return {key: part if key in HEXADECIMAL else everywhere(part, markup) for key, part in value.items()}
    if isinstance(value, list):
        return [everywhere(part, markup) for part in value]
    return f"{value}{markup}" if isinstance(value, str) and value not in ENUMERATED else value
