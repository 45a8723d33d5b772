"""Versions of the packages that ran the files of a run; apart from `runtimes`, which machines without pydantic load."""

from __future__ import annotations

from compress.deployment.runtimes import find_runtime
from compress.efficiency.files import PYTORCH
from compress.registry import RUNTIMES
from compress.results import Environment


def engine_version(environment: Environment, runtime: str) -> str | None:
    """Return the version of the package that ran the files of a runtime; None where it is unknown."""
    if runtime in RUNTIMES:
        engine = find_runtime(runtime).engine
        return environment.torch if engine == "torch" else environment.packages.get(engine)
    return environment.torch if runtime == PYTORCH else None
