"""The teacher store: what the teacher says of each view, embedded once and kept.

One store entry a view of all train images, a memory-mapped fp16 array `[images, width]`. A view is written in blocks,
and a killed run goes on after the last whole one; more views add entries without touching those that are there. Heads,
prompts and temperature are not part of it: they are applied to the embeddings afterwards.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.models.fingerprint import view_key
from compress.models.jit_fuse import fuse_layers
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.store.store import Store
from compress.training.dataset import Images
from compress.utils.atomic import write_atomic
from compress.utils.console import say, task
from compress.utils.errors import CompressError

BLOCK = 4096  # images after which what is embedded counts as done
SAME = 0.999  # cosine of two embeddings of the same view; a mirrored image is at 0.99 and below


@dataclass(frozen=True)
class Embedder:
    """A teacher, the images that it is asked about, and what determines its answers.

    Attributes:
        load: gives the teacher; called once, and only where an embedding has to be computed.
        splits: the images, in a row.
        views: how a view may differ from its image.
        batch: images that are embedded at once.
        identity: what besides the view determines an embedding: the data's key, the teacher's weights and settings,
            the versions.
    """

    store: Store
    load: Callable[[], LoadedTeacher]
    splits: Sequence[Split]
    views: Views
    seed: int
    batch: int
    identity: dict[str, str]

    @cached_property
    def images(self) -> Images:
        return Images(self.splits)

    @cached_property
    def tower(self) -> tuple[nn.Module, Preprocess]:
        teacher = self.load()
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        tower = teacher.tower.to(device).to(memory_format=torch.channels_last)
        return fuse_layers(tower, teacher.preprocess.resolution), teacher.preprocess


def embed_views(embedder: Embedder, count: int) -> list[Path]:
    """Fill the store with `count` views of the images, and return one file a view."""
    files = []
    for view in range(count):
        title = f"teacher embeddings, view {view + 1} of {count}"

        def make(folder: Path, view: int = view, title: str = title) -> None:
            _embed(embedder, view, title, folder)

        key = view_key(embedder.identity, embedder.views, embedder.seed, view)
        folder, _ = embedder.store.get(key, f"the teacher's embeddings of view {view + 1}", make)
        files.append(folder / "embeddings.npy")
    return files


def verify(embedder: Embedder, files: Sequence[Path], rows: int) -> None:
    """Compute `rows` random rows again.

    Raises:
        CompressError: one of them is not what is stored.
    """
    rng = np.random.default_rng()  # another choice each time
    for view, chosen in _shared_out(rng, rows, len(files), len(embedder.images)):
        stored = np.load(files[view], mmap_mode="r")
        for start in range(0, len(chosen), embedder.batch):
            index = chosen[start : start + embedder.batch]
            again = torch.from_numpy(embed_rows(embedder, index, view)).float()
            alike = F.cosine_similarity(again, torch.from_numpy(np.asarray(stored[index])).float())
            worst = int(alike.argmin())
            if not bool(alike[worst] >= SAME):
                raise CompressError(
                    f"the stored embedding of view {view + 1} of image {index[worst]} is not the teacher's: their "
                    f"cosine is {float(alike[worst]):.4f}; delete {files[view].parent} and run again"
                )


@torch.inference_mode()
def embed_rows(embedder: Embedder, index: np.ndarray, view: int) -> np.ndarray:
    """Embeddings fp16 `[b, width]` of a view of the images with these numbers."""
    tower, preprocess = embedder.tower
    device = _device(tower)
    images = torch.from_numpy(embedder.images.rows(index)).to(device)
    numbers = torch.from_numpy(index.astype(np.int64)).to(device)
    pixels = preprocess(render(images, numbers, view, embedder.seed, embedder.views))
    return tower(pixels.contiguous(memory_format=torch.channels_last)).half().cpu().numpy()  # type: ignore[no-any-return]


def _embed(embedder: Embedder, view: int, title: str, folder: Path) -> None:
    total = len(embedder.images)
    file, mark = folder / "embeddings.npy", folder / "scratch" / "done.json"
    blocks = _whole_blocks(file, mark, total)
    done = min(len(blocks) * BLOCK, total)
    if done:
        say(f"  {title}: goes on after {done} of {total} images")
    with task(title, total) as advance:
        advance(done)
        array: np.memmap | None = np.load(file, mmap_mode="r+") if done else None
        while done < total:
            block = np.arange(done, min(done + BLOCK, total))
            for start in range(0, len(block), embedder.batch):
                index = block[start : start + embedder.batch]
                rows = embed_rows(embedder, index, view)
                if array is None:
                    shape = (total, rows.shape[1])
                    array = np.lib.format.open_memmap(file, "w+", dtype=np.float16, shape=shape)
                array[index[0] : index[-1] + 1] = rows
                advance(len(index))
            assert array is not None
            array.flush()
            done += len(block)
            blocks.append(_digest(array[block[0] : done]))
            _mark(mark, blocks)


def _whole_blocks(file: Path, mark: Path, total: int) -> list[str]:
    """Digests of the first blocks of a killed run's view, as far as they are what it wrote."""
    try:
        blocks = json.loads(mark.read_text())["blocks"]
        array = np.load(file, mmap_mode="r")
        if len(array) != total or array.dtype != np.float16:
            return []
        found = [_digest(array[start : start + BLOCK]) for start in range(0, total, BLOCK)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    same = [now == then for now, then in zip(found, blocks, strict=False)]
    return found[: [*same, False].index(False)]


def _mark(path: Path, blocks: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    write_atomic(path, json.dumps({"blocks": blocks}))


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.tobytes()).hexdigest()


def _shared_out(rng: np.random.Generator, rows: int, views: int, images: int) -> list[tuple[int, np.ndarray]]:
    """Random (view, image numbers), `rows` of them in all."""
    places = rng.choice(views * images, min(rows, views * images), replace=False)
    return [(view, np.sort(places[places // images == view] % images)) for view in np.unique(places // images).tolist()]


def _device(tower: nn.Module) -> torch.device:
    return next((value.device for value in tower.parameters()), torch.device("cpu"))
