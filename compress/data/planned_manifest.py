"""The data of a manifest as plans need it: counts instead of images. No shard is opened or looked for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from compress.data.known_contents import contents_id, recall
from compress.data.layout import LABELLED
from compress.data.manifest import is_manifest
from compress.data.prepared import ImageData, blank_data
from compress.data.remote_shards import list_remote
from compress.data.source import Contents
from compress.data.sources import key_of_contents
from compress.data.splits import sizes_of
from compress.recipe.data import DataSection, FileData, LabelledData
from compress.utils.console import say
from compress.utils.errors import UsageError


def has_manifest(settings: DataSection) -> bool:
    """Whether the data of a recipe is listed in a manifest."""
    return isinstance(settings, FileData) and bool(settings.shard_endings) and is_manifest(settings.path)


def planned_manifest(settings: DataSection, root: Path, seed: int) -> ImageData:
    """Return blank images, as many as a manifest lists, and print what it adds up to.

    The key is that of the prepared data if the shards have been read before, by a process that shares the store in
    `root`; else it is one that no prepared data has.

    Raises:
        UsageError: the manifest is wrong, lists too few images, or the names of the classes are not known.
    """
    assert isinstance(settings, FileData)
    list_remote.cache_clear()
    shards = list_remote(settings.path, settings.shard_endings).shards
    listed: Counter[str] = Counter()
    for shard in shards:
        listed[shard.part] += shard.images or 0
    known = recall(settings, root / "fingerprints.json")
    classes = known.classes if known else _classes(settings)
    by_class = {name: _evenly(listed[name], len(classes)) for name in LABELLED if name in listed}
    if known and known.train_counts:
        by_class["train"] = known.train_counts
    has_test = "test" in listed
    if not has_test and settings.test is None:
        raise UsageError(f"{settings.path}: lists no test images; `test: 0.2` in data cuts a fifth off for them")
    contents = known or Contents(contents_id(settings), classes, "validation" in listed, by_class["train"], has_test)
    key = key_of_contents(contents, settings, seed)
    sizes = sizes_of(listed, by_class, classes, settings)
    images, size = sum(listed.values()), sum(shard.bytes for shard in shards)
    say(f"data: {images:,} images in {len(shards):,} shards, {_size(size)}; no shard was opened")
    if settings.images == "pixels":
        pixels = images * 3 * settings.resolution**2
        say(f"  decoded once into the store they take {_size(pixels)}; `images: files` decodes batches instead")
    return blank_data(settings, classes, sizes, key)


def _evenly(total: int, classes: int) -> tuple[int, ...]:
    """Return the images of each class where they are alike in number."""
    return tuple(total // classes + (row < total % classes) for row in range(classes))


def _classes(settings: FileData) -> tuple[str, ...]:
    named = settings.classes if isinstance(settings, LabelledData) else None
    if not named:
        raise UsageError(
            f"data.classes: {settings.path} does not say the names of the classes, and no shard is opened for a plan; "
            "list them in `classes`"
        )
    return tuple(named)


def _size(size: int) -> str:
    return f"{size / 1e12:,.2f} TB" if size >= 1e12 else f"{size / 1e9:,.2f} GB"
