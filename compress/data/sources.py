"""The key that stands for prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compress import registry
from compress.data.splits import check, left_of_test
from compress.recipe.data import Data, FileData
from compress.utils.hashing import key_of

VERSION = 1  # of what is made from the same images and settings


def data_key(settings: Data, seed: int, cache: Path | None = None) -> str:
    """Key of the prepared data: the content of its images and the settings that change pixels or splits.

    Prompts and views are not in it, nor where the images lie. Nothing is decoded; with `cache`, a json file, no image
    that was hashed before is read. A data set that is still to be downloaded is downloaded.

    Raises:
        CompressError: images cannot be read, or are not there.
        UsageError: the source is not laid out as it should be, or has too few labels for the settings.
    """
    contents = registry.source(settings.source).contents(settings, cache)
    cut = not contents.has_validation
    pixels: dict[str, Any] = {}
    counts = contents.train_counts
    if isinstance(settings, FileData):
        pixels = {"resolution": settings.resolution, "broken": settings.broken}
        if not contents.has_test:
            pixels["test"] = settings.test
            counts = left_of_test(counts, contents.classes, settings.test) if counts and settings.test else counts
    if counts is not None:
        check(counts, contents.classes, settings, cut=cut)
    return key_of(
        kind="data",
        version=VERSION,
        fingerprint=contents.fingerprint,
        labeled=settings.labeled,
        validation=settings.validation if cut else None,
        seed=seed if cut or settings.labeled is not None else None,
        **pixels,
    )
