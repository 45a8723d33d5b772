"""What a distillation asks its teacher, and what stands for the answers in the store. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from compress.data.prepared import SPLITS, ImageData, Split
from compress.recipe.fit import Distillation
from compress.utils.system import version_of

TEACHER_PACKAGES = ("torch", "torchvision", "timm", "open_clip_torch")


def learnt_from(data: ImageData, settings: Distillation) -> tuple[list[Split], int]:
    """The images that a distillation learns from, and how many views of each its epochs come to."""
    learn_unlabeled = settings.unlabeled and len(data.unlabeled.images) > 0
    splits = [data.train, data.unlabeled] if learn_unlabeled else [data.train]
    return splits, min(settings.views, max(1, settings.epochs)) if settings.augment else 1


def embeddings_of(data: ImageData, splits: Sequence[Split], teacher: dict[str, str]) -> dict[str, str]:
    """What besides the view determines a teacher's embeddings of `splits`; `teacher` is its `embedding_id`."""
    names = [name for name in SPLITS if any(split is getattr(data, name) for split in splits)]
    versions = {name: str(version_of(name)) for name in TEACHER_PACKAGES}
    return {"data": data.key, "splits": "+".join(names), **teacher, **versions}
