"""What the stages of a run will take on the disk, from what they took in a dry run. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compress.data.prepared import ImageData
from compress.recipe.fit import Distillation
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import training_views
from compress.store.store import Store

CHECKPOINT = 4  # times the bytes of a network, of the state of its fit: weights, optimizer, and a copy being written


@dataclass(frozen=True)
class Space:
    """What a stage took in a dry run.

    Attributes:
        entry: Bytes of its entry, which do not depend on the number of images as far as it is not small.
        width: Values of a teacher's embedding that it learns from; 0 without.
    """

    entry: int
    width: int = 0


def space_of(store: Store, planned: PlannedStage) -> Space:
    """Return the space of a stage that was made in a dry run's store."""
    folder = store.path(planned.key)
    entry = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    embedded = store.root.glob("*/embeddings.npy")
    widths = [np.load(file, mmap_mode="r").shape[1] for file in embedded] if _distils(planned) else []
    return Space(entry, max(widths, default=0))


def expected_bytes(stages: Sequence[PlannedStage], spaces: Mapping[str, Space], data: ImageData) -> int:
    """Return the bytes that stages will take, by the spaces of those that are known, by id.

    Embeddings that stages share are counted once, for most views; of the states of fits only the largest, as it is
    deleted at the end.
    """
    known = [(each, spaces[each.id]) for each in stages if each.id in spaces]
    logits = 4 * len(data.classes) * len(data.test)
    entries = sum(space.entry + (logits if each.makes_variant else 0) for each, space in known)
    states = max((CHECKPOINT * space.entry for each, space in known if any(each.stage.fits())), default=0)
    embeddings: dict[tuple[object, ...], int] = {}
    for each, space in known:
        for settings in _distils(each):
            splits, views = training_views(data, settings)
            images = sum(len(split) for split in splits)
            shared = (each.teacher, images, settings.augment)
            embeddings[shared] = max(embeddings.get(shared, 0), 2 * space.width * images * views)
    return entries + states + sum(embeddings.values())


def _distils(planned: PlannedStage) -> list[Distillation]:
    """Return the settings with which a stage learns from stored embeddings."""
    fits = (settings for _, settings in planned.stage.fits() if planned.teacher and settings.epochs)
    return [each for each in fits if isinstance(each, Distillation) and each.teacher == "stored"]
