"""The key that stands for prepared data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from compress import registry
from compress.data.held_out import HeldOut, require_class
from compress.data.image_io import decoder_versions
from compress.data.known_contents import keep, recall
from compress.data.listing import check_reading
from compress.data.manifest import is_manifest
from compress.data.remote_shards import list_remote
from compress.data.shards import locate
from compress.data.source import Contents
from compress.data.splits import check_counts, counts_after_test
from compress.recipe.data import DataSection, FileData
from compress.utils.hashing import key_of

VERSION = 2  # of the prepared data; part of every key


def data_key(settings: DataSection, seed: int, cache: Path | None = None) -> str:
    """Compute the key of the prepared data from the images and the settings that change pixels or splits.

    Prompts, views and paths do not enter. Of image files, the release of the decoder does; the other sources are
    pixels, or packed without loss. Nothing is decoded; a data set that is not there is downloaded.
    Digests of files are kept in the JSON file `cache`.

    Raises:
        CompressError: images cannot be read or are missing.
        UsageError: the layout of the source is wrong, or it has too few labels or lacks a class for the settings.
    """
    return key_of_contents(describe_source(settings, cache), settings, seed)


def describe_source(settings: DataSection, cache: Path | None = None) -> Contents:
    """Describe a source without decoding an image; see `data_key`.

    Of shards at a URL, the description is kept: as long as they are the same there, it needs no download again.
    """
    source = registry.source(settings.source)
    if not isinstance(settings, FileData) or not (settings.is_remote or _is_manifest(settings)):
        return source.contents(settings, cache)
    list_remote.cache_clear()  # of an earlier run in this process
    contents = recall(settings, cache) if settings.is_remote else None
    if contents is None:
        contents = source.contents(settings, cache)
        keep(settings, cache, contents)
    beside = list_remote(settings.path, settings.shard_endings).left_out  # may change while the shards stay
    return replace(contents, left_out=(*beside, *contents.left_out))


def _is_manifest(settings: FileData) -> bool:
    return bool(settings.shard_endings) and is_manifest(settings.path)


def key_of_contents(contents: Contents, settings: DataSection, seed: int) -> str:
    """Compute the key of the prepared data of a source that has been described; see `data_key`."""
    cut = not contents.has_validation
    pixels: dict[str, object] = {}
    counts = contents.train_counts
    if isinstance(settings, FileData):
        where, sequential = locate(settings.path), contents.sequential
        check_reading(settings, where, has_test=contents.has_test, sequential=sequential)  # kept ones were not checked
        pixels = {"resolution": settings.resolution, "broken": settings.broken, "decoders": decoder_versions()}
        if settings.images != "pixels":
            pixels |= {"images": settings.images, "halved": "in training"}  # once also where accuracy is measured
            pixels |= {"truncated": "left out"} if settings.broken == "skip" else {}  # which once ended a training
        if not contents.has_test:
            pixels["test"] = settings.test
            counts = counts_after_test(counts, contents.classes, settings.test) if counts and settings.test else counts
    classes = HeldOut.of(settings, contents.classes)
    for name in settings.prompts or ():
        require_class(name, contents.classes, "data.prompts")
    if counts is not None:
        check_counts([counts[row] for row in classes.kept_rows], classes.kept, settings, cut=cut)
    if classes.held:
        pixels["held_out"] = classes.held
    return key_of(
        kind="data",
        version=VERSION,
        fingerprint=contents.fingerprint,
        labeled=settings.labeled,
        validation=settings.validation if cut else None,
        seed=seed if cut or settings.labeled is not None else None,
        **pixels,
    )
