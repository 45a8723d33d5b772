"""Sweeps over a tiny recipe whose runs are arithmetic: a run takes milliseconds, and the best settings are known."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from results_factory import (
    DATE,
    TREND,
    VALIDATION,
    N,
    accuracy,
    example_record,
    inference,
    latency_row,
    right,
    training,
    variant,
)

from compress.efficiency.savings import savings
from compress.measurement.accuracy import bits
from compress.pipeline.runner import Run
from compress.recipe.schema import Recipe
from compress.results import Artifact, Training, Variant
from compress.sweep.job import Job, Limits, read_job
from compress.sweep.records import Sweep
from compress.sweep.run import run_sweep

SPACE = """\
parameters:
  stages.distilled.lr: [0.01, 0.03, 0.1, 0.3]
  stages.pruned.target_macs: {low: 0.2, high: 0.8, step: 0.2}
variants: [pruned, int8]
objectives: [validation, macs]
sampler: grid
"""
COMBINATIONS = 32


def quality(lr: float, target: float, kind: str, epochs: int = 4) -> float:
    """Accuracy by settings: the best learning rate is 0.1, and small networks are worse, the more the smaller."""
    loss = 0.04 * (math.log10(lr) + 1) ** 2 + 0.2 * (1 - target) ** 2
    return 0.95 - loss - (0.004 if kind == "int8" else 0) - 0.1 / epochs


def macs_of(target: float) -> int:
    return round(1_000_000 * target)


@dataclass
class Arithmetic:
    """Makes runs of a recipe by arithmetic, counts them, and writes their results.

    Attributes:
        made: Settings of the runs.
        fail: Raises for some of them.
        shift: Change of accuracy on test alone.
        seconds: Time that a run takes.
    """

    made: list[tuple[float, float, int]] = field(default_factory=list)
    fail: Callable[[float, float], None] = lambda lr, target: None
    shift: Callable[[float, float], float] = lambda lr, target: 0.0
    seconds: float = 0.0

    def __call__(self, recipe: Recipe, runs: Path, command: str, page: str) -> Run:
        by_id: dict[str, Any] = {stage.id: stage for stage in recipe.stages}
        lr, target, epochs = by_id["distilled"].lr, by_id["pruned"].target_macs, by_id["distilled"].epochs
        self.made.append((lr, target, epochs))
        time.sleep(self.seconds)
        self.fail(lr, target)
        folder = runs / recipe.name / secrets.token_hex(6)
        folder.mkdir(parents=True)
        teacher = _variant("teacher", "teacher", None, 0.9, 0.9, 4_000_000, "teacher", training())
        distilled = training(0, parts=[("teacher: 2 views of 64 images", 600), ("student: forward", 1000 * epochs)])
        made = [teacher, _variant("distilled", "distill", None, 0.9, 0.9, 1_000_000, f"d {lr} {epochs}", distilled)]
        for kind, parent, own in (("pruned", "distilled", "repair"), ("int8", "pruned", "calibration")):
            level = quality(lr, target, kind, epochs)
            parts = [(part.what, part.macs) for part in made[-1].training.parts] + [
                (own, 50 if kind == "int8" else 300)
            ]
            test = level + self.shift(lr, target)
            made.append(
                _variant(kind, {"pruned": "prune", "int8": "quantize"}[kind], parent, level, test, macs_of(target),
                         f"{kind} {lr} {target} {epochs}", training(0, parts=parts))
            )  # fmt: skip
        record = example_record()
        record = record.model_copy(
            update={
                "run": record.run.model_copy(update={"id": folder.name, "sweep": page}),
                "command": command,
                "recipe": record.recipe.model_copy(update={"name": recipe.name, "resolved": recipe.resolved()}),
                "variants": tuple(made),
                "disagreements": None,
                "class_changes": (),
                "training_efficiency": (),
                "efficiency": (savings([teacher], "teacher", recipe.worth.tolerance, TREND, DATE),),
            }
        )
        (folder / "results.json").write_text(record.to_json())
        return Run(folder, record)


def _variant(
    id: str, kind: str, parent: str | None, validation: float, test: float, macs: int, key: str, ledger: Training
) -> Variant:
    own = right(round(N * test))
    bits_ = 8 if kind == "quantize" else 32
    chosen = accuracy(
        round(VALIDATION * validation), VALIDATION, bits(np.arange(VALIDATION) < round(VALIDATION * validation))
    )
    rows = [
        latency_row("openvino", 1, macs / 1e6 * (0.5 if bits_ == 8 else 1), precision="int8" if bits_ == 8 else "fp32")
    ]
    return variant(
        id,
        kind,
        parent=parent,
        stage_key=f"key of {key}",
        accuracy=accuracy(round(N * test), N, own),
        validation=chosen.model_copy(update={"split": "validation"}),
        inference=inference(macs, bits_, latency=rows, size=macs * bits_ // 8),
        training=ledger.model_copy(update={"macs": sum(part.macs for part in ledger.parts)}),
        artifacts=(
            Artifact(runtime="openvino", format="IR", path=f"artifacts/{id}/openvino/model.xml", bytes=macs,
                     top1=round(N * test) / N, ci95=accuracy(round(N * test), N).ci95, right=own),
        ) if kind != "teacher" else (),
    )  # fmt: skip


@dataclass(frozen=True)
class Bench:
    """A folder with a recipe, in which a test writes spaces and runs sweeps."""

    root: Path

    @property
    def recipe(self) -> Path:
        return self.root / "tiny.yaml"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def space(self, text: str = SPACE) -> Path:
        path = self.root / "space.yaml"
        path.write_text(text)
        return path

    def job(
        self,
        text: str = SPACE,
        *,
        make: Any = None,
        trials: int | None = None,
        overrides: Sequence[str] = (),
        **more: Any,
    ) -> Job:
        limits = Limits(trials, more.pop("hours", None), more.pop("macs", None))
        job = read_job(str(self.recipe), self.space(text), self.runs, limits=limits, overrides=overrides, **more)
        return replace(job, make=make or Arithmetic())

    def sweep(self, text: str = SPACE, **more: Any) -> Sweep:
        return run_sweep(self.job(text, **more))

    def trial(self, number: int, name: str = "tiny-space") -> Any:
        return json.loads((self.runs / "sweeps" / name / "trials" / f"{number:05d}.json").read_text())
