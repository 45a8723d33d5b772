"""Benchmark targets on this machine: every variant, in every runtime that it has an artifact for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.timing import Candidate, file_candidate
from compress.models.embedding import encoder_of
from compress.models.onnx_network import OnnxNetwork
from compress.registry import PYTORCH
from compress.results.stored import runnable_artifacts
from compress.stages.context import StageContext
from compress.stages.planned import PlannedStage
from compress.utils.precision import HALF, file_name
from compress.utils.system import thread_count


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

    A variant has a key per precision: its id, and one more for its files in half precision.

    Attributes:
        preprocess: Preprocessing by variant.
        precision: Numeric precision by key.
        variant: Variant by key.
        candidates: Loadable candidates by runtime and key.
        units: What made each of them, by runtime and key.
        threads: Threads of every candidate.
        test: Test split, whose first images are the input.
    """

    preprocess: dict[str, Preprocess]
    precision: dict[str, str]
    variant: dict[str, str]
    candidates: dict[str, dict[str, Candidate]]
    units: dict[tuple[str, str], PlannedStage]
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
        units: dict[tuple[str, str], PlannedStage] = {}
        for planned in context.plan.variants:
            if not planned.stage.is_quantized and not isinstance(encoder_of(networks[planned.id][0]), OnnxNetwork):
                candidates[PYTORCH][planned.id] = _eager(context, planned)
                units[PYTORCH, planned.id] = planned
        variants = context.plan.variants
        precision = {planned.id: planned.stage.variant_precision for planned in variants}
        variant = {planned.id: planned.id for planned in variants}
        for planned in context.plan.exports:
            assert planned.parent
            for row, path in runnable_artifacts(context.folder(planned.id)):
                key = file_name(planned.parent, row.precision)
                if row.precision in HALF:
                    precision[key], variant[key] = row.precision, planned.parent
                candidates.setdefault(row.runtime, {})[key] = file_candidate(key, row.runtime, path)
                units[row.runtime, key] = planned
        return cls(
            preprocess={name: preprocess for name, (_, preprocess) in networks.items()},
            precision=precision,
            variant=variant,
            candidates=candidates,
            units=units,
            threads=thread_count(context.recipe.measure.threads),
            test=context.data.test,
        )

    def setting(self, key: str, runtime: str, batch: int) -> Setting:
        """Return the conditions of a measurement."""
        resolution = self.preprocess[self.variant[key]].resolution
        return Setting(runtime, self.precision[key], batch, self.threads, resolution)

    def file(self, runtime: str, key: str) -> tuple[str, str]:
        """Return the id of what made a candidate, and the name of its file, as failures of a run have them."""
        return self.units[runtime, key].id, file_name(runtime, self.precision[key])

    def images(self, key: str, batch: int) -> np.ndarray[Any, Any]:
        """Return the first test images as a batch, float32 `[batch, 3, r, r]`, repeated if there are fewer."""
        rows = np.arange(batch) % len(self.test)
        preprocess = self.preprocess[self.variant[key]].on_stored()
        return preprocess(torch.from_numpy(self.test.images[rows])).contiguous().numpy()


def _eager(context: StageContext, planned: PlannedStage) -> Candidate:
    return Candidate(planned.id, PYTORCH, "compress.models.eager:load_eager", context.eager_arguments(planned.id))
