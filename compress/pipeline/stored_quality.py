"""Confidence and classes of a run, kept in the store: on large test splits they take minutes, a cached run does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.efficiency.files import name_of
from compress.pipeline.predictions import Predictions
from compress.pipeline.quality import read_predictors, with_quality
from compress.pipeline.quality_changes import quality_changes
from compress.results.quality import QualityChange
from compress.results.stored import StoredQuality
from compress.results.variant import Variant
from compress.stages.planned import Plan
from compress.store.store import Store
from compress.utils.hashing import key_of

REVISION = 2  # raised when the same predictions give other figures
FILE = "quality.json"


def add_quality(
    plan: Plan, store: Store, predictions: Predictions, variants: Sequence[Variant]
) -> tuple[list[Variant], tuple[QualityChange, ...]]:
    """Return variants with the quality of their predictions, and its changes against every reference."""
    threshold = plan.recipe.worth.threshold
    key = key_of(
        kind="quality",
        revision=REVISION,
        data=plan.data_key,
        variants=[[unit.id, unit.key, unit.id in predictions.validation] for unit in plan.variants],
        # An export that could not make all of its files is tried again under the same key.
        files=[[unit.id, unit.key, unit.parent] for unit in plan.exports],
        made=[[file.path, file.top1, file.right] for variant in variants for file in variant.artifacts],
        references=plan.references,
        threshold=threshold,
    )

    def make(folder: Path) -> None:
        predictors = {each.key: each for each in read_predictors(plan, store, predictions)}
        found = with_quality(variants, predictors)
        changes = (change for each in plan.references for change in quality_changes(each, found, predictors, threshold))
        StoredQuality(
            networks={variant.id: variant.quality for variant in found},
            files={f"{each.id} {name_of(file)}": file.quality for each in found for file in each.artifacts},
            changes=tuple(changes),
        ).write(folder / FILE)

    folder, _ = store.get(key, "confidence and classes", make)
    stored = StoredQuality.read(folder / FILE)
    return [_described(variant, stored) for variant in variants], stored.changes


def _described(variant: Variant, stored: StoredQuality) -> Variant:
    files = tuple(
        file.model_copy(update={"quality": stored.files[f"{variant.id} {name_of(file)}"]}) for file in variant.artifacts
    )
    return variant.model_copy(update={"quality": stored.networks[variant.id], "artifacts": files})
