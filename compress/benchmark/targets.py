"""Benchmark targets on this machine: every variant, in every runtime that it has an artifact for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.runtimes import find_runtime
from compress.recipe.stage import QUANTIZED
from compress.results import ARTIFACTS
from compress.stages.context import StageContext
from compress.stages.export.make import ROWS, run_eager
from compress.stages.planned import PlannedStage
from compress.utils.system import thread_count

PYTORCH = "pytorch"
"""Eager PyTorch, the baseline of every float variant."""
Runner = Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Setting:
    """Conditions of a measurement."""

    runtime: str
    precision: str
    batch: int
    threads: int
    resolution: int


@dataclass(frozen=True)
class BenchTargets:
    """Variants and their runners.

    Attributes:
        preprocess: Preprocessing by variant.
        precision: Numeric precision by variant.
        runners: Function that runs a batch, by runtime and variant.
        threads: Threads of every runner.
        test: Test split, whose first images are the input.
    """

    preprocess: dict[str, Preprocess]
    precision: dict[str, str]
    runners: dict[str, dict[str, Runner]]
    threads: int
    test: Split

    @classmethod
    def load(cls, context: StageContext) -> BenchTargets:
        """Load all variants in all their runtimes; the caller sets the threads of PyTorch.

        Quantized graphs are not benchmarked in eager PyTorch, which only simulates integer arithmetic.
        """
        threads = thread_count(context.recipe.measure.threads)
        networks = {planned.id: context.classifier(planned.id) for planned in context.plan.variants}
        runners: dict[str, dict[str, Runner]] = {PYTORCH: {}}
        for planned in context.plan.variants:
            if QUANTIZED not in planned.stage.makes:
                runners[PYTORCH][planned.id] = _eager(networks[planned.id][0])
        for planned in context.plan.exports:
            assert planned.parent
            for runtime, path in runnable_artifacts(context, planned):
                runners.setdefault(runtime, {})[planned.parent] = find_runtime(runtime).load(path, threads)
        preprocess = {name: network[1] for name, network in networks.items()}
        precision = {planned.id: planned.stage.precision for planned in context.plan.variants}
        return cls(preprocess, precision, runners, threads, context.data.test)

    def setting(self, variant: str, runtime: str, batch: int) -> Setting:
        """Return the conditions of a measurement."""
        resolution = self.preprocess[variant].resolution
        return Setting(runtime, self.precision[variant], batch, self.threads, resolution)

    def images(self, variant: str, batch: int) -> np.ndarray[Any, Any]:
        """Return the first test images as a batch, float32 `[batch, 3, r, r]`, repeated if there are fewer."""
        rows = np.arange(batch) % len(self.test)
        return self.preprocess[variant](torch.from_numpy(self.test.images[rows])).contiguous().numpy()


def runnable_artifacts(context: StageContext, planned: PlannedStage) -> list[tuple[str, Path]]:
    """Return (runtime, path) of the artifacts of an export that run on this machine."""
    folder = context.folder(planned.id)
    rows = ARTIFACTS.validate_json((folder / ROWS).read_bytes())
    return [(row.runtime, folder / "artifacts" / row.format / Path(row.path).name) for row in rows if not row.not_run]


def _eager(model: nn.Module) -> Runner:
    return partial(run_eager, model.to(memory_format=torch.channels_last))
