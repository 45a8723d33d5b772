"""Stored embeddings of one view of all images, in files of a shard of images each.

A shard is a unit of work: any process may make it. Files are memory-mapped, so that memory stays flat however many
there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

MAPPED = 256  # files of a view that are mapped at a time


@dataclass(frozen=True)
class EmbeddedView:
    """Embeddings fp16 `[images, width]` of one view."""

    files: tuple[Path, ...]  # one array per shard, in order

    @cached_property
    def _map(self) -> Callable[[int], np.ndarray]:
        """Maps a shard's file; only some at a time, since each holds a file open."""

        @lru_cache(MAPPED)
        def load(shard: int) -> np.ndarray:
            return np.asarray(np.load(self.files[shard], mmap_mode="r"))

        return load

    @cached_property
    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(self._map(shard)) for shard in range(len(self.files)))])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @cached_property
    def width(self) -> int:
        return int(self._map(0).shape[1])

    def rows(self, index: np.ndarray) -> np.ndarray:
        """Return the embeddings `[n, width]` of the images `index`, in its order."""
        if len(self.files) == 1:
            return np.asarray(self._map(0)[index])
        found = np.empty((len(index), self.width), self._map(0).dtype)
        shard = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(shard).tolist():
            here = shard == number
            found[here] = self._map(number)[index[here] - self._starts[number]]
        return found

    def file_of(self, image: int) -> Path:
        """Return the file that an image's embedding is in."""
        return self.files[int(np.searchsorted(self._starts, image, side="right")) - 1]

    def all(self) -> np.ndarray:
        """Read the embeddings of all images."""
        return np.concatenate([self._map(shard) for shard in range(len(self.files))])
