"""`runtimes: auto`: which of a variant's files holds its accuracy, and is the fastest of those."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from compress.data.preprocess import Preprocess
from compress.deployment.runtimes import Runner, find_runtime
from compress.measurement.accuracy import agreement
from compress.measurement.latency import fastest, measure_interleaved, summary
from compress.pipeline.plan import PlannedStage
from compress.recipe.schema import ExportStage
from compress.stages.context import StageContext

Record = dict[str, Any]
FILE = "auto.json"


def check_on_validation(
    work: StageContext, unit: PlannedStage, built: Mapping[str, Path], answer: Callable[[Runner | None], np.ndarray]
) -> dict[str, Record]:
    """What each file loses on the validation images: `{loss, agreement, n}` by runtime, against PyTorch.

    Args:
        built: The file to load, by runtime.
        answer: Gives the validation images' logits `[n, classes]` in a runtime, or where that is None in PyTorch.
    """
    labels = work.data.validation.labels
    assert labels is not None
    expected = answer(None).argmax(1)
    rows = {}
    for runtime, path in built.items():
        found = answer(find_runtime(runtime).load(path)).argmax(1)
        lost = float((expected == labels).mean() - (found == labels).mean())
        rows[runtime] = {"loss": lost, "agreement": agreement(found, expected), "n": len(labels)}
    return rows


def choices(
    work: StageContext, runners: Mapping[str, Mapping[str, Runner]], images: Callable[[str, int], np.ndarray]
) -> dict[str, list[Record]]:
    """Time the files of each variant of a `runtimes: auto` export in turns, and choose by batch.

    Args:
        runners: What runs a batch, by runtime and variant.
        images: Those of a variant and batch, float32 `[batch, 3, r, r]`.

    Returns:
        By variant, one entry a batch: `{batch, runtime, tied, allowed_loss, candidates: [{runtime, p50_ms,
        ratio_to_choice, ratio_ci95, validation_loss, validation_agreement, holds}], left_out: {runtime: reason}}`.
        `runtime` is None where no file holds the accuracy; `tied` are those that are as fast within the interval, of
        which the choice is the first in the order of the table.
    """
    found: dict[str, list[Record]] = {}
    for unit in work.plan.exports:
        assert unit.parent and isinstance(unit.stage, ExportStage)
        if unit.stage.auto:
            about = json.loads((work.folder(unit.id) / FILE).read_text())
            for batch in work.recipe.measure.batches:
                given = images(unit.parent, batch)
                candidates = {name: partial(runners[name][unit.parent], given) for name in about["validation"]}
                times = measure_interleaved(candidates, work.recipe.measure.rounds)
                record = choose(times, about["validation"], unit.stage.auto_loss)
                found.setdefault(unit.parent, []).append({"batch": batch, **record, "left_out": about["left_out"]})
    return found


def choose(times: Mapping[str, list[float]], validation: Mapping[str, Record], allowed: float) -> Record:
    """The fastest of the files that hold the accuracy; of several as fast, the first. See `choices`."""
    holds = {name: validation[name]["loss"] <= allowed + 1e-9 for name in times}
    equal = fastest({name: taken for name, taken in times.items() if holds[name]}) if any(holds.values()) else []
    candidates = []
    for name, taken in times.items():
        record = summary(taken, times[equal[0]] if equal else None)
        candidates.append(
            {
                "runtime": name,
                "p50_ms": record["p50_ms"],
                "ratio_to_choice": record["ratio_to_reference"],
                "ratio_ci95": record["ratio_ci95"],
                "validation_loss": validation[name]["loss"],
                "validation_agreement": validation[name]["agreement"],
                "holds": holds[name],
            }
        )
    return {
        "runtime": equal[0] if equal else None,
        "tied": equal[1:],
        "allowed_loss": allowed,
        "candidates": candidates,
    }


def validation_logits(
    work: StageContext, preprocess: Preprocess, run: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Logits of the validation images `[n, classes]`."""
    import torch

    images = work.data.validation.images
    blocks = (images[start : start + 50] for start in range(0, len(images), 50))
    return np.concatenate([run(preprocess(torch.from_numpy(np.array(block))).numpy()) for block in blocks])
