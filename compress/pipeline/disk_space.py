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
class Footprint:
    """What a stage took in a dry run.

    Attributes:
        entry: Bytes of its entry, which do not depend on the number of images as far as it is not small.
        width: Values of a teacher's embedding that it learns from; 0 without.
        seconds: Time that it took, none of which depends on the number of images; None if it was not made.
    """

    entry: int
    width: int = 0
    seconds: float | None = None


def footprint(store: Store, planned: PlannedStage, seconds: float) -> Footprint:
    """Return the footprint of a stage that was made in a dry run's store in so many seconds."""
    folder = store.path(planned.key)
    entry = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    embedded = store.root.glob("*/embeddings.npy")
    widths = [np.load(file, mmap_mode="r").shape[1] for file in embedded] if _distils(planned) else []
    return Footprint(entry, max(widths, default=0), round(seconds, 3))


def expected_bytes(stages: Sequence[PlannedStage], footprints: Mapping[str, Footprint], data: ImageData) -> int:
    """Return the bytes that stages will take, by the footprints of those that are known, by id.

    Embeddings that stages share are counted once, for most views; of the states of fits only the largest, as it is
    deleted at the end.
    """
    known = [(each, footprints[each.id]) for each in stages if each.id in footprints]
    logits = 4 * len(data.classes) * (len(data.test) + len(data.validation))
    entries = sum(took.entry + logits * (1 if each.makes_variant else len(each.files)) for each, took in known)
    states = max((CHECKPOINT * took.entry for each, took in known if any(each.stage.fits())), default=0)
    embeddings: dict[tuple[object, ...], int] = {}
    for each, took in known:
        for settings in _distils(each):
            splits, views = training_views(data, settings)
            images = sum(len(split) for split in splits)
            shared = (each.teacher, images, settings.augment)
            embeddings[shared] = max(embeddings.get(shared, 0), 2 * took.width * images * views)
    return entries + states + sum(embeddings.values())


def _distils(planned: PlannedStage) -> list[Distillation]:
    """Return the settings with which a stage learns from stored embeddings."""
    fits = (settings for _, settings in planned.stage.fits() if planned.teacher and settings.epochs)
    return [each for each in fits if isinstance(each, Distillation) and each.teacher == "stored"]
