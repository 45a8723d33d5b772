"""Benchmark targets on this machine: every variant, in every runtime that it has an artifact for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.timing import Candidate, file_candidate
from compress.models.onnx_network import OnnxNetwork
from compress.results import ARTIFACTS
from compress.stages.context import StageContext
from compress.stages.export.make import ROWS
from compress.stages.planned import PlannedStage
from compress.utils.system import thread_count

PYTORCH = "pytorch"
"""Eager PyTorch, the baseline of every float variant."""


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
    """Variants, and how to load each in every runtime.

    Attributes:
        preprocess: Preprocessing by variant.
        precision: Numeric precision by variant.
        candidates: Loadable candidates by runtime and variant.
        threads: Threads of every candidate.
        test: Test split, whose first images are the input.
    """

    preprocess: dict[str, Preprocess]
    precision: dict[str, str]
    candidates: dict[str, dict[str, Candidate]]
    threads: int
    test: Split

    @classmethod
    def find(cls, context: StageContext) -> BenchTargets:
        """Find all variants in all their runtimes.

        Quantized graphs are not benchmarked in eager PyTorch, which only simulates integer arithmetic, nor are ONNX
        files, which it does not run.
        """
        networks = {planned.id: context.classifier(planned.id) for planned in context.plan.variants}
        candidates: dict[str, dict[str, Candidate]] = {PYTORCH: {}}
        for planned in context.plan.variants:
            if not planned.stage.is_quantized and not isinstance(networks[planned.id][0], OnnxNetwork):
                candidates[PYTORCH][planned.id] = _eager(context, planned)
        for planned in context.plan.exports:
            assert planned.parent
            for runtime, path in runnable_artifacts(context, planned):
                candidates.setdefault(runtime, {})[planned.parent] = file_candidate(planned.parent, runtime, path)
        variants = context.plan.variants
        return cls(
            preprocess={name: preprocess for name, (_, preprocess) in networks.items()},
            precision={planned.id: planned.stage.precision for planned in variants},
            candidates=candidates,
            threads=thread_count(context.recipe.measure.threads),
            test=context.data.test,
        )

    def setting(self, variant: str, runtime: str, batch: int) -> Setting:
        """Return the conditions of a measurement."""
        resolution = self.preprocess[variant].resolution
        return Setting(runtime, self.precision[variant], batch, self.threads, resolution)

    def images(self, variant: str, batch: int) -> np.ndarray[Any, Any]:
        """Return the first test images as a batch, float32 `[batch, 3, r, r]`, repeated if there are fewer."""
        rows = np.arange(batch) % len(self.test)
        return self.preprocess[variant].on_stored()(torch.from_numpy(self.test.images[rows])).contiguous().numpy()


def runnable_artifacts(context: StageContext, planned: PlannedStage) -> list[tuple[str, Path]]:
    """Return (runtime, path) of the artifacts of an export that run on this machine."""
    folder = context.folder(planned.id)
    rows = ARTIFACTS.validate_json((folder / ROWS).read_bytes())
    return [(row.runtime, folder / "artifacts" / row.format / Path(row.path).name) for row in rows if not row.not_run]


def _eager(context: StageContext, planned: PlannedStage) -> Candidate:
    return Candidate(planned.id, PYTORCH, "compress.models.eager:load_eager", context.eager_arguments(planned.id))
