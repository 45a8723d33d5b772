"""Packages whose versions decide what a file for a runtime contains."""

from __future__ import annotations

from collections.abc import Sequence

from compress.deployment.runtimes import find_runtime

EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")


def runtime_packages(runtimes: Sequence[str]) -> tuple[str, ...]:
    """Return the packages behind the files of `runtimes`, each once."""
    packages = (package for name in runtimes for package in find_runtime(name).packages)
    return tuple(dict.fromkeys((*EXPORT_PACKAGES, *packages)))
