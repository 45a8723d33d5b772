"""Packages whose versions determine the content of exported files."""

from __future__ import annotations

from collections.abc import Sequence

from compress.deployment.runtimes import find_runtime

EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def runtime_packages(runtimes: Sequence[str]) -> tuple[str, ...]:
    """Return the packages used to export to `runtimes`, without duplicates."""
    packages = (package for name in runtimes for package in find_runtime(name).packages)
    return tuple(dict.fromkeys((*EXPORT_PACKAGES, *packages)))
