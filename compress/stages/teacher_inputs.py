"""Images and views that a distillation needs from its teacher, and the identity of the embeddings. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.prepared import SPLITS, ImageData, Split
from compress.recipe.fit import Distillation
from compress.utils.system import version_of

TEACHER_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch")


def training_views(data: ImageData, settings: Distillation) -> tuple[list[Split], int]:
    """Return the splits that a distillation trains on, and the number of views per image over its epochs.

    Without epochs it needs none.
    """
    use_unlabeled = settings.unlabeled and len(data.unlabeled.images) > 0
    splits = [data.train, data.unlabeled] if use_unlabeled else [data.train]
    return splits, min(settings.views if settings.augment else 1, settings.epochs)


def embeddings_identity(
    data: ImageData, splits: Sequence[Split], teacher: dict[str, str], precision: str = "32-true"
) -> dict[str, str]:
    """Return what determines a teacher's embeddings of `splits`, except the view; `teacher` is its `embedding_id`.

    `precision: auto` has embeddings of its own, so that no other recipe is given reduced precision; all other settings
    of the trainer share those of FP32.
    """
    names = [name for name in SPLITS if any(split is getattr(data, name) for split in splits)]
    versions = {name: str(version_of(name)) for name in TEACHER_PACKAGES}
    computed = {"computed": precision} if precision == "auto" else {}
    return {"data": data.key, "splits": "+".join(names), **teacher, **versions, **computed}
