"""The original image files, or members of shards, of prepared data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.data.digests import BLOCK, THREADS, image_digest
from compress.data.image_io import BrokenImage, try_decode
from compress.data.labels import PARTS
from compress.data.large import BLOCK as MANY
from compress.data.listing import Listing, list_images
from compress.data.parallel import in_blocks
from compress.data.source import Pixels, Raw, Rows
from compress.data.splits import Pieces
from compress.recipe.data import DataSection, FileData
from compress.utils.errors import CompressError
from compress.utils.system import cores

Places = NDArray[np.int64]
"""Of each image its part (index in `PARTS`) and its row in the listing of that part, `[n, 2]`."""
MAX_WORKERS = 16  # unless the recipe says more
EMPTY = 128  # bytes of a `.npy` file without images, which cannot be memory-mapped


def stored_decoder(
    settings: DataSection, side: int, *, draft: bool = False
) -> Callable[[Path | bytes], Pixels | BrokenImage]:
    """Return the function that decodes an image file as those of the data are: uint8 `[3, side, side]`."""
    most = settings.max_pixels if isinstance(settings, FileData) else None
    return partial(try_decode, to=side, draft=draft, max_pixels=most)


def places(part: str, rows: Rows) -> Places:
    """Return the places of rows of a part."""
    return np.stack([np.full(len(rows), PARTS.index(part)), rows], 1)


class Originals:
    """Reads the originals of prepared data, by split and row.

    Args:
        settings: The section of the recipe.
        folder: Folder of the prepared data.
        listing: Listing of the source, where it has been made; else it is made when it is needed.
    """

    def __init__(self, settings: FileData, folder: Path, listing: Listing | None = None) -> None:
        self.settings, self.folder = settings, folder
        if listing is not None:
            self.listing = listing

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "folder": self.folder}

    @cached_property
    def listing(self) -> Listing:
        return list_images(self.settings)

    def read(self, split: str, rows: Sequence[int] | Rows) -> Iterator[Path | bytes]:
        """Read the images of rows of a split, in the order given, each a file or its content.

        No content is kept. Ascending rows are the fastest: those of one shard are read in one pass.

        Raises:
            CompressError: a shard cannot be read, or has changed since the data was prepared.
        """
        yield from self.read_places(self.places(split)[np.asarray(rows, np.int64)])

    def read_places(self, places: Places) -> Iterator[Path | bytes]:
        """Read the images at places of the listing; see `read`."""
        ends = [0, *(np.flatnonzero(np.diff(places[:, 0])) + 1).tolist(), len(places)]
        for start, end in itertools.pairwise(ends):
            if end == start:
                continue
            part, rows = self.listing.parts.get(PARTS[int(places[start, 0])]), places[start:end, 1]
            if part is None or int(rows.max()) >= part.count:
                raise CompressError(f"{self.listing.where} has changed since its images were prepared; rerun")
            yield from part.read(rows)

    def shards(self, places: Places) -> Rows:
        """Return the shard of the image at each place, as a number in `listing.shards`."""
        found = np.empty(len(places), np.int64)
        for part in np.unique(places[:, 0]).tolist():
            shard, here = self.listing.parts[PARTS[part]].shard, places[:, 0] == part
            assert shard, "the images of this source are in no shards"
            found[here] = shard(places[here, 1])
        return found

    def name(self, place: Sequence[int]) -> str:
        """Return the name of the image at a place, for messages."""
        part, row = place
        return f"{self.listing.where}: {self.listing.parts[PARTS[part]].name(int(row))}"

    def name_in(self, split: str, row: int) -> str:
        """Return the name of the image in a row of a split, relative to the source."""
        part, place = self.places(split)[row].tolist()
        return self.listing.parts[PARTS[part]].name(place)

    def places(self, split: str) -> Places:
        """Return the places of the images of a split."""
        file = _file(self.folder, split)
        places: Places = np.load(file, mmap_mode="r" if file.stat().st_size > EMPTY else None)
        return places


def places_of(raw: Raw, pieces: Pieces) -> Places:
    """Return the places of the images of a split."""
    blocks = [np.empty((0, 2), np.int64)]
    for part, rows in pieces:
        assert part.rows is not None
        name = next(name for name in PARTS if (own := getattr(raw, name)) and own.images is part.images)
        blocks.append(places(name, part.rows[rows]))
    return np.concatenate(blocks)


def save_places(folder: Path, split: str, raw: Raw, pieces: Pieces) -> None:
    """Store the places of a split in the folder of the prepared data."""
    np.save(_file(folder, split), places_of(raw, pieces))


def _file(folder: Path, split: str) -> Path:
    return folder / f"rows-{split}.npy"


class UnreadableOriginal(CompressError):
    """An original cannot be read or decoded."""

    def __init__(self, message: str) -> None:
        # PyTorch hands on an error of a worker process as one of the same class, whose message ends with the traceback.
        super().__init__(message.strip().rsplit("\n", 1)[-1].split(f"{type(self).__name__}: ")[-1])


class FileImages:
    """Images that are decoded when they are read: indexed like an array uint8 `[n, 3, side, side]`.

    Nothing is kept in memory, and an image has the same pixels whatever is read with it, in any thread or process.

    Args:
        originals: Reads the image files.
        places: Those of the images.
        draft: Let the JPEG decoder halve large images, as `decode` does: for training, not for what is measured.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, originals: Originals, places: Places, *, draft: bool = False) -> None:
        side = originals.settings.resolution
        self.originals, self.places, self.draft = originals, places, draft
        self.shape = (len(places), 3, side, side)
        self.threads = THREADS

    def __len__(self) -> int:
        return self.shape[0]

    def in_full(self) -> FileImages:
        """Return the same images, none of them halved by the decoder."""
        return FileImages(self.originals, self.places)

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels, if they were decoded."""
        return int(np.prod(self.shape))

    def worker_count(self, world: int) -> int:
        """Return the number of processes that decode batches of a fit, which has `world` processes itself."""
        self.originals.listing  # noqa: B018 - made once, before processes are forked
        workers = self.originals.settings.workers
        return max(1, min(cores() // world, MAX_WORKERS)) if workers is None else workers

    def shard_runs(self) -> tuple[Rows, Rows]:
        """Return the first row of each run of images of one shard, and its shard, as a number in `listing.shards`."""
        firsts, shards, last = [np.empty(0, np.int64)], [np.empty(0, np.int64)], -1
        for start in range(0, len(self), MANY):
            found = self.originals.shards(self.places[start : start + MANY])
            first = np.flatnonzero(np.diff(found, prepend=last))
            firsts.append(first + start)
            shards.append(found[first])
            last = int(found[-1])
        return np.concatenate(firsts), np.concatenate(shards)

    def __getitem__(self, rows: Any) -> Pixels:
        """Decode the images of a row, a slice, an array of rows or a mask."""
        if isinstance(rows, slice):
            return self._decode(np.arange(*rows.indices(len(self))))
        chosen = np.asarray(rows)
        if chosen.dtype == bool:
            chosen = np.flatnonzero(chosen)
        if chosen.size and not -len(self) <= chosen.min() <= chosen.max() < len(self):
            raise IndexError(f"row {chosen.min()} or {chosen.max()} of {len(self)} images")
        pixels = self._decode(np.atleast_1d(chosen) % max(1, len(self)))
        return pixels if chosen.ndim else pixels[0]

    def __iter__(self) -> Iterator[Pixels]:
        for start in range(0, len(self), BLOCK):
            yield from self[start : start + BLOCK]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Pixels:
        return self[:] if dtype is None else self[:].astype(dtype)

    def digests(self, advance: Callable[..., None], *, decoding: bool = False) -> Iterator[bytes]:
        """Compute the SHA-256 of the bytes of each original.

        Args:
            advance: Called after each image.
            decoding: Decode each too, to find those that are truncated.

        Raises:
            UnreadableOriginal: one cannot be read, or decoded.
        """
        decode_one = stored_decoder(self.originals.settings, self.shape[-1]) if decoding else None

        def read(image: Path | bytes) -> tuple[bytes, Pixels | BrokenImage | None]:
            return image_digest(image), decode_one(image) if decode_one else None

        found = in_blocks(self.originals.read_places(self.places), read, advance)
        for place, (digest, decoded) in zip(self.places, found, strict=True):
            if isinstance(decoded, BrokenImage):
                raise self._unreadable(place, decoded)
            yield digest

    def _unreadable(self, place: Places, why: BrokenImage) -> UnreadableOriginal:
        return UnreadableOriginal(
            f"{self.originals.name(place.tolist())} is not a readable image ({why}); remove it and rerun"
        )

    def _decode(self, rows: Rows) -> Pixels:
        places = self.places[rows]
        order = np.lexsort(places.T[::-1])  # shards are read from front to end
        pixels = np.empty((len(rows), *self.shape[1:]), np.uint8)
        try:
            images = self.originals.read_places(places[order])
            decode_one = stored_decoder(self.originals.settings, self.shape[-1], draft=self.draft)
            for row, image in zip(order, in_blocks(images, decode_one, threads=self.threads), strict=True):
                if isinstance(image, BrokenImage):
                    raise self._unreadable(places[row], image)
                pixels[row] = image
        except UnreadableOriginal:
            raise
        except CompressError as error:
            raise UnreadableOriginal(str(error)) from error
        return pixels
