"""Prepared data: the images of any source as memory-mapped arrays, decoded once into the store."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from compress import registry
from compress.data.expected import expected_line, refuse_full_disk
from compress.data.held_out import HeldOut
from compress.data.large import compact
from compress.data.left_out import LeftOut, Tally
from compress.data.listing import list_images
from compress.data.originals import FileImages, Originals, save_places
from compress.data.shards import data_name
from compress.data.source import Images, Labels
from compress.data.sources import describe_source, key_of_contents
from compress.data.splits import HELD_OUT, Pieces, split_parts, split_sizes
from compress.recipe.data import DataSection, FileData
from compress.store.store import Store
from compress.utils.console import say, task
from compress.utils.messages import join_words

SPLITS = ("train", "unlabeled", "validation", "test")
TRAINED = ("train", "unlabeled")  # splits that networks are trained on
BLOCK = 256  # images copied at once


@dataclass(frozen=True)
class Split:
    """Images uint8 `[n, 3, H, W]`, read-only, memory-mapped or decoded when read; labels `[n]`, or None.

    Labels are int64, those of a large data set in the smallest integer type that holds them. Images are in the order of
    their source, class after class for folders: shuffle before taking the first n.
    """

    images: Images
    labels: Labels | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class ImageData:
    """A prepared data set."""

    name: str  # name of the source, or of its folder
    classes: tuple[str, ...]  # names of the classes, in the order of the labels
    resolution: int  # side of the stored images in pixels
    train: Split  # labelled train images
    unlabeled: Split  # images whose labels are hidden or unknown; may be empty
    validation: Split  # labelled validation images
    test: Split  # labelled test images
    key: str  # key of the data in the store
    skipped: int  # number of files that were not images
    originals: Originals | None = None  # reads the image files of the splits; None for sources without image files
    left_out: tuple[LeftOut, ...] = ()  # what of the source is in no split, by reason
    notes: tuple[str, ...] = ()  # remarks on how the source is read, one sentence each
    held_out: Split | None = None  # test images of the classes `held_names`, with labels for these
    held_names: tuple[str, ...] = ()  # names of classes that are in no other split


def prepare(settings: DataSection, store: Store, seed: int) -> ImageData:
    """Return the images of a source from the store, decoding them into it first if necessary.

    Raises:
        CompressError: images cannot be read or are missing.
        UsageError: the layout of the source is wrong, or it has too few labels for the settings.
    """
    name = _name(settings)
    contents = describe_source(settings, store.root / "fingerprints.json")
    key = key_of_contents(contents, settings, seed)
    if isinstance(settings, FileData) and settings.images == "pixels" and not store.has(key):
        refuse_full_disk(settings, store.root)
    folder, _ = store.get(key, f"images of {name}", lambda target: _decode(settings, seed, target))
    about = json.loads((folder / "data.json").read_text())
    originals = Originals(settings, folder) if isinstance(settings, FileData) else None
    names = (*SPLITS, *([HELD_OUT] if settings.held_out else []))
    splits = {split: _open(folder, split, originals) for split in names}
    classes, skipped = tuple(about["classes"]), about["skipped"]
    tally = Tally()
    tally.extend(contents.left_out)
    tally.add("image", "not readable", next(iter(skipped), ""), len(skipped))
    return ImageData(
        name,
        classes,
        about["resolution"],
        **splits,
        key=key,
        skipped=len(skipped),
        originals=originals,
        left_out=tally.rows(),
        notes=(*contents.notes, *_held_out_notes(settings, splits)),
        held_names=HeldOut.of(settings, contents.classes).held,
    )


def _held_out_notes(settings: DataSection, splits: Mapping[str, Split]) -> Iterator[str]:
    if settings.held_out:
        names, images = join_words(settings.held_out, "and"), len(splits[HELD_OUT])
        yield f"Held out: {names}. {images:,} test images of them measure zero-shot accuracy; others are not used."
        if len(splits["unlabeled"]):
            yield "Images to which the source gives no label may be of held-out classes; they are kept."


def planned_data(settings: DataSection, store: Store, seed: int, key: str) -> ImageData:
    """Return the prepared data `key`; of image files that have not been prepared yet, blank images, as many.

    What preparing those will take is printed.
    """
    if not isinstance(settings, FileData) or store.has(key):
        return prepare(settings, store, seed)
    say(expected_line(settings, store.root))
    listing = list_images(settings)
    return blank_data(settings, listing.classes, split_sizes(listing, settings), key)


def blank_data(settings: FileData, classes: tuple[str, ...], sizes: Mapping[str, int], key: str) -> ImageData:
    """Return blank images, which take no memory, as many as each split has."""
    side = settings.resolution
    blank = {
        split: Split(np.broadcast_to(np.uint8(0), (size, 3, side, side)), np.broadcast_to(np.int64(0), (size,)))
        for split, size in sizes.items()
    }
    own = HeldOut.of(settings, classes)
    return ImageData(_name(settings), own.kept, side, key=key, skipped=0, held_names=own.held, **blank)  # type: ignore[arg-type]


def _name(settings: DataSection) -> str:
    return data_name(settings.path) if isinstance(settings, FileData) else settings.source


def _decode(settings: DataSection, seed: int, folder: Path) -> None:
    scratch = folder / "scratch"
    shutil.rmtree(scratch, ignore_errors=True)  # a killed run may have left half an array
    scratch.mkdir()
    raw = registry.source(settings.source).read(settings, scratch)
    if raw.skipped:
        files = "file that is not an image" if len(raw.skipped) == 1 else "files that are not images"
        more = f" and {len(raw.skipped) - 1} more" if len(raw.skipped) > 1 else ""
        say(f"data: skipped {len(raw.skipped)} {files}: {raw.skipped[0]}{more}")
    lazy = isinstance(settings, FileData) and settings.images == "files"
    for split, pieces in split_parts(raw, settings, seed).items():
        _write(folder, split, pieces, len(raw.classes), pixels=not lazy)
        if raw.train.rows is not None:
            save_places(folder, split, raw, pieces)
    kept = HeldOut.of(settings, raw.classes).kept
    about = {"classes": kept, "resolution": raw.train.images.shape[-1], "skipped": raw.skipped}
    (folder / "data.json").write_text(json.dumps(about, indent=1))


def _write(folder: Path, split: str, pieces: Pieces, classes: int, *, pixels: bool) -> None:
    """Write the labels of a split, and its `pixels` as `.npy`."""
    if pixels:
        _write_pixels(folder, split, pieces)
    if split != "unlabeled":
        part, rows = pieces[0]
        assert part.labels is not None
        np.save(folder / f"labels-{split}.npy", compact(part.labels[rows], classes))


def _write_pixels(folder: Path, split: str, pieces: Pieces) -> None:
    """Write in blocks, so that memory stays flat however many images there are."""
    total = sum(len(rows) for _, rows in pieces)
    shape = (total, *pieces[0][0].images.shape[1:])
    with (folder / f"images-{split}.npy").open("wb") as file, task(f"images: {split}", total) as advance:
        _write_header(file, shape)
        for part, rows in pieces:
            for start in range(0, len(rows), BLOCK):
                block = part.images[rows[start : start + BLOCK]]
                file.write(block.tobytes())
                advance(len(block))


def _write_header(file: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _open(folder: Path, split: str, originals: Originals | None) -> Split:
    path = folder / f"images-{split}.npy"
    file = folder / f"labels-{split}.npy"
    labels = np.load(file, mmap_mode="r") if file.exists() else None
    if originals and originals.settings.images == "files":
        return Split(FileImages(originals, originals.places(split), draft=split in TRAINED), labels)
    try:
        images = np.load(path, mmap_mode="r")
    except ValueError:  # an empty file cannot be mapped: a split without images
        images = np.load(path)
        images.flags.writeable = False
    return Split(images, labels)
