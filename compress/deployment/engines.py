"""Versions of the packages that ran the files of a run; apart from `runtimes`, which is sent to other machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compress.deployment.runtimes import find_runtime
from compress.registry import PYTORCH, RUNTIMES

if TYPE_CHECKING:
    from compress.results import Environment


def engine_version(environment: Environment, runtime: str) -> str | None:
    """Return the version of the package that ran the files of a runtime; None where it is unknown."""
    if runtime in RUNTIMES:
        engine = find_runtime(runtime).engine
        return environment.torch if engine == "torch" else environment.packages.get(engine)
    return environment.torch if runtime == PYTORCH else None
