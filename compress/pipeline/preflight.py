"""What a run needs is looked for before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from compress.deployment.runtimes import require
from compress.quantization.method import require_method
from compress.recipe.schema import ExportStage, PruneStage, QuantizeStage, Stage
from compress.utils.errors import CompressError


def check_needs(stages: Sequence[Stage], check: Callable[[str], Any] = require) -> None:
    """Refuse stages whose runtime or quantizer is absent.

    Args:
        stages: Stages of a recipe.
        check: Raises where a runtime, by name, cannot be used.

    Raises:
        CompressError: one is absent, or broken; the message names the stage and what adds it.
    """
    for stage in stages:
        runtimes = list(stage.runtimes) if isinstance(stage, ExportStage) and not stage.auto else []
        if isinstance(stage, PruneStage) and stage.target_latency:
            runtimes.append(stage.target_latency.runtime)
        try:
            for runtime in runtimes:
                check(runtime)
            if isinstance(stage, QuantizeStage):
                require_method(stage.method)
        except CompressError as error:
            raise type(error)(f"stage {stage.id}: {error}") from error
