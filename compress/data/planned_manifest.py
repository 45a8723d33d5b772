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
from compress.recipe.data import DataSection, FileData, LabelledData, TableData
from compress.utils.console import say, size_text
from compress.utils.errors import UsageError
from compress.utils.names import same_name


def has_manifest(settings: DataSection) -> bool:
    """Whether the data of a recipe is listed in a manifest."""
    return isinstance(settings, FileData) and bool(settings.shard_endings) and is_manifest(settings.path)


def planned_manifest(settings: DataSection, root: Path, seed: int) -> ImageData:
    """Return blank images, as many as a manifest lists, and print what it adds up to.

    The key is that of the prepared data if the shards have been read before, by a process that shares the store in
    `root`; else it is one that no prepared data has.

    Raises:
        UsageError: the manifest is wrong, lists too few images, or the names of the classes or, where a column says
            them, the splits are not known.
    """
    assert isinstance(settings, FileData)
    list_remote.cache_clear()
    shards = list_remote(settings.path, settings.shard_endings).shards
    listed: Counter[str] = Counter()
    for shard in shards:
        listed[shard.part] += shard.images or 0
    known = recall(settings, root / "fingerprints.json")
    classes = known.classes if known else _classes(settings)
    if known and known.part_counts:
        by_class, listed = known.part_counts, Counter({name: sum(own) for name, own in known.part_counts.items()})
    else:
        by_class = {name: _evenly(listed[name], len(classes)) for name in LABELLED if name in listed}
        _check_parts(settings, listed)
    has_validation, has_test = "validation" in listed, "test" in listed
    contents = known or Contents(contents_id(settings), classes, has_validation, by_class["train"], has_test)
    key = key_of_contents(contents, settings, seed)
    sizes = sizes_of(listed, by_class, classes, settings)
    images, size = sum(listed.values()), sum(shard.bytes for shard in shards)
    say(f"data: {images:,} images in {len(shards):,} shards, {size_text(size)}; no shard was opened")
    if settings.images == "pixels":
        pixels = images * 3 * settings.resolution**2
        say(f"  decoded once into the store they take {size_text(pixels)}; `images: files` decodes batches instead")
    return blank_data(settings, classes, sizes, key)


def _check_parts(settings: FileData, listed: Counter[str]) -> None:
    """Refuse to plan where the splits of a manifest, as its lines state them, cannot be those of the data."""
    if isinstance(settings, TableData) and settings.split:
        raise UsageError(
            f"data.split: the column '{settings.split}' decides about the splits, and no shard is opened for a plan; "
            "set `path` to the folder of the shards, or plan again after a run with `sha256` in the manifest"
        )
    if not listed["train"]:
        raise UsageError(f"{settings.path}: lists no train images; add their shards, or correct `split` of its lines")
    if "test" not in listed and settings.test is None:
        raise UsageError(f"{settings.path}: lists no test images; `test: 0.2` in data cuts a fifth off for them")


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
    return tuple(map(same_name, named))
