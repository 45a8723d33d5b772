"""What every `preprocess.json` states of the input and the output of the network beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict


class Stated(TypedDict, total=False):
    """Form of the input and the output."""

    channels: str
    layout: str
    dtype: str
    scale: float
    output: str


STATED: Stated = {"channels": "RGB", "layout": "NCHW", "dtype": "float32", "scale": 1 / 255, "output": "logits"}
"""What holds for every artifact; a file that states anything else is refused, but for the two outputs below."""
EMBEDDING = "embedding"
"""Output of the files of embedding students, beside which lies a class list."""
PROBABILITIES = "probabilities"
"""Output of files with their own softmax."""


def require_stated(values: Mapping[str, Any], *outputs: str) -> None:
    """Check what a `preprocess.json` states; other `outputs` than logits may be allowed.

    Raises:
        ValueError: it states what is not done here.
    """
    for name, stated in STATED.items():
        if values.get(name, stated) not in (stated, *(outputs if name == "output" else ())):
            raise ValueError(f"{name} must be {stated}, not {values[name]!r}")
    interpolation = values.get("interpolation", "bicubic")
    if values.get("antialias", is_antialiased(interpolation)) != is_antialiased(interpolation):
        raise ValueError(f"antialias must be {is_antialiased(interpolation)} with {interpolation}, as Pillow resizes")


def is_antialiased(interpolation: str) -> bool:
    """Whether Pillow's resize filters before it samples: always, but for the nearest pixel."""
    return interpolation != "nearest"
