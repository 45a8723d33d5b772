"""compress: distil, prune, quantize, export and measure an image classifier from one recipe."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compress.api.artifacts import EvaluationResult, evaluate, export
    from compress.api.functional import distill, measure, prune, quantize
    from compress.api.run import RunResults, run
    from compress.data.preprocess import Preprocess
    from compress.deployment.artifact import load_artifact
    from compress.efficiency.doublings import doublings
    from compress.recipe.load import load_recipe
    from compress.recipe.schema import Recipe
    from compress.utils.errors import CompressError, RecipeError, UsageError

# ONNX Runtime, OpenVINO and NNCF report their use to their makers, and are told not to before any of them is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # to Python: it is not installed

_WHERE = {
    "CompressError": "compress.utils.errors",
    "EvaluationResult": "compress.api.artifacts",
    "Preprocess": "compress.data.preprocess",
    "Recipe": "compress.recipe.schema",
    "RecipeError": "compress.utils.errors",
    "RunResults": "compress.api.run",
    "UsageError": "compress.utils.errors",
    "distill": "compress.api.functional",
    "doublings": "compress.efficiency.doublings",
    "evaluate": "compress.api.artifacts",
    "export": "compress.api.artifacts",
    "load_artifact": "compress.deployment.artifact",
    "load_recipe": "compress.recipe.load",
    "measure": "compress.api.functional",
    "prune": "compress.api.functional",
    "quantize": "compress.api.functional",
    "run": "compress.api.run",
}
__all__ = [
    "CompressError",
    "EvaluationResult",
    "Preprocess",
    "Recipe",
    "RecipeError",
    "RunResults",
    "UsageError",
    "distill",
    "doublings",
    "evaluate",
    "export",
    "load_artifact",
    "load_recipe",
    "measure",
    "prune",
    "quantize",
    "run",
]


def __getattr__(name: str) -> Any:
    """Public names are loaded when they are asked for, so that `import compress` stays quick.

    Raises:
        UsageError: this is Windows itself, which lacks modules that they need.
    """
    if name in _WHERE:
        from compress.utils.platform import require_supported_system

        require_supported_system()
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
