"""Training compute of a search: what all trials spent together, stages that several share counted once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Any

from compress.efficiency.compute import trained_teacher
from compress.recipe.stage import stage_sections
from compress.report.sides import Side
from compress.results import RunRecord, TrainingPart, Variant
from compress.stages.kind import StageKind
from compress.sweep.folder import digest
from compress.sweep.records import Compute, Trial

_CACHED = re.compile(r"teacher: \d+ views of (?P<images>\d+) images")


def spent_by_unit(run: RunRecord) -> dict[str, int]:
    """Return the training MACs of a run by what they were spent on, a key that is the same in runs that share it.

    A stage that goes on from its parent's network counts without what its parent took. Cached embeddings of a teacher
    are no part of a stage: they are shared by all stages that learn from the same views of the same teacher, and each
    view is made once.
    """
    variants = {variant.id: variant for variant in run.variants}
    spent: dict[str, int] = {}
    for variant in run.variants:
        own = _own_parts(variant, variants.get(variant.parent or ""))
        key = variant.stage_key or f"{run.run.id}/{variant.id}"
        spent[key] = sum(part.macs for part in own if not _CACHED.fullmatch(part.what))
        for name, macs in _embeddings(run, variant).items():
            spent[name] = max(spent.get(name, 0), macs)
    return spent


def _own_parts(variant: Variant, parent: Variant | None) -> Sequence[TrainingPart]:
    """Return the parts of a ledger that the parent's lacks."""
    parts = variant.training.parts
    section = stage_sections().get(variant.kind)
    continues = section is not None and issubclass(section, StageKind) and section.continues_ledger
    if parent is None or not continues:
        return parts
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(parts, parent.training.parts, strict=False))
    return parts[sum(1 for _ in shared) :]


def _embeddings(run: RunRecord, variant: Variant) -> dict[str, int]:
    """Sum the cached embeddings of a variant and those that it was made from, by what determines them.

    Those of more views include those of fewer.
    """
    parent = next((each for each in run.variants if each.id == variant.parent), None)
    own = _own_parts(variant, parent)
    found = _embeddings(run, parent) if parent and len(own) < len(variant.training.parts) else {}
    for part in own:
        if match := _CACHED.fullmatch(part.what):
            name = f"teacher embeddings {digest(_identity(run, variant, match['images']))[:16]}"
            found[name] = found.get(name, 0) + part.macs
    return found


def _identity(run: RunRecord, variant: Variant, images: str) -> dict[str, Any]:
    """Return what determines the embeddings that a variant learned from, besides the views' numbers.

    It is at least as fine as their key in the store: teachers that differ in their prompts only are charged for
    embeddings of their own. Without the variant's stage in the recipe it is the variant.
    """
    recipe = run.recipe.resolved
    stages = {stage["id"]: stage for stage in recipe.get("stages", ())}
    if variant.id not in stages:
        return {"variant": variant.stage_key or f"{run.run.id}/{variant.id}"}
    stage = stages[variant.id]
    sections = [stage, *(section for section in stage.values() if isinstance(section, dict))]
    return {
        "teacher": _teacher(run, stages, variant.id),
        "images": images,
        "views": {key: section[key] for section in sections for key in ("augment", "unlabeled") if key in section},
        "data": recipe.get("data"),
        "seed": recipe.get("seed"),
        "auto": recipe.get("trainer", {}).get("precision") == "auto",  # other formats share those of FP32
    }


def _teacher(run: RunRecord, stages: Mapping[str, Mapping[str, Any]], name: str) -> str:
    """Return the key of the network at the start of a stage's lineage, which is its teacher."""
    seen = set[str]()
    while name not in seen and isinstance(parent := stages.get(name, {}).get("from"), str):
        seen.add(name)
        name = parent
    key = next((variant.stage_key for variant in run.variants if variant.id == name), None)
    return key or f"{run.run.id}/{name}"


def making_macs(side: Side) -> int:
    """Return the training MACs of a variant, with those of its teacher where the recipe trains that too."""
    teacher = trained_teacher(side.variant, {variant.id: variant for variant in side.run.variants})
    return side.variant.training.macs + (teacher.training.macs if teacher else 0)


def total_macs(trials: Iterable[Trial]) -> int:
    """Return the training MACs of trials together, each unit counted once."""
    units: dict[str, int] = {}
    for trial in trials:
        for key, macs in trial.spent.items():
            units[key] = max(units.get(key, 0), macs)
    return sum(units.values())


def search_compute(trials: Sequence[Trial], making_macs: int | None) -> Compute:
    """Compare what the search took with what making its answer takes."""
    macs = total_macs(trials)
    unshared = sum(sum(trial.spent.values()) for trial in trials)
    return Compute(
        macs=macs,
        unshared_macs=unshared,
        reused_share=1 - macs / unshared if unshared else None,
        making_macs=making_macs,
        ratio=macs / making_macs if making_macs else None,
    )
