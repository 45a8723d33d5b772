"""Cached teacher embeddings, computed once per view.

One store entry per view and shard of the train images: a memory-mapped fp16 array `[images, width]`. A shard is written
in blocks, and a killed run resumes after the last complete one; more views add entries without touching the present
ones. Heads, prompts and temperature are not part of an entry: they are applied to the embeddings afterwards.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.data.views import render
from compress.measurement.batch_size import BatchSize
from compress.measurement.device import CPU, computes_half, exact_float32, move
from compress.measurement.transfer import Outputs, batches_on
from compress.models.fingerprint import shard_keys
from compress.models.jit_fuse import fuse_layers
from compress.models.teachers import LoadedTeacher
from compress.recipe.data import Views
from compress.store.store import Store
from compress.training.dataset import ImageDataset
from compress.training.embedding_devices import Part, Progress, Shard, offer_shards
from compress.training.embedding_shards import EmbeddedView
from compress.training.formats import (
    Choice,
    Format,
    FormatChooser,
    candidates,
    choose_for_passes,
    with_layout,
)
from compress.utils.atomic import write_atomic
from compress.utils.console import say
from compress.utils.errors import CompressError

BLOCK = 4096  # images between two records of what is done
_LOADING = threading.Lock()  # devices load their teachers one after another
MIN_COSINE = 0.999  # of two embeddings of the same view; a mirrored image is at 0.99 and below


@dataclass(frozen=True)
class Embedder:
    """A teacher, the images that it embeds, and what determines the embeddings."""

    store: Store  # keeps the embeddings
    load: Callable[[], LoadedTeacher]  # loads the teacher; called once, and only if an embedding has to be computed
    splits: Sequence[Split]  # the images, one split after another
    views: Views  # how a view may differ from its image
    seed: int  # seed of the views
    batch: int  # images per forward pass
    # what determines an embedding besides the view: the data's key, the teacher's weights and settings, the versions of
    # packages
    identity: dict[str, str]
    chooser: FormatChooser | None = None  # chooses the number format; without it, FP32
    device: torch.device = CPU  # what the teacher runs on
    shard: int = 65_536  # images per store entry

    @cached_property
    def size(self) -> BatchSize:
        """The batch size, which all views and their verification share."""
        return BatchSize(self.batch, "teacher embeddings", self.device)

    @cached_property
    def images(self) -> ImageDataset:
        return ImageDataset(self.splits)

    @cached_property
    def tower(self) -> EmbeddingTower:
        with _LOADING:
            network, tower = _towers(self.load(), self.device)
            return tower if self.chooser is None else _in_fastest_format(self, self.chooser, network, tower)


@dataclass(frozen=True)
class EmbeddingTower:
    """A teacher's network as it embeds."""

    network: nn.Module
    preprocess: Preprocess  # from stored pixels
    format: Format

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return the embeddings fp16 `[b, width]` of images uint8 `[b, 3, h, w]`."""
        pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        with self.format.forward_context(pixels.device):
            return self.network(pixels).half()  # type: ignore[no-any-return]


def embedding_speedup(teacher: LoadedTeacher, batch: int, chooser: FormatChooser, device: torch.device) -> float:
    """Return how many times as fast as in FP32 a teacher embeds in the format that is chosen for it."""
    if not computes_half(device)["bf16"]:
        return 1.0
    with exact_float32(device):
        return _choose(chooser, *_towers(teacher, device), device, batch).speedup


def _towers(teacher: LoadedTeacher, device: torch.device) -> tuple[nn.Module, EmbeddingTower]:
    """Return a teacher's network, and its tower in FP32."""
    network = move(teacher.tower, device).to(memory_format=torch.channels_last)
    fused = fuse_layers(network, teacher.preprocess.resolution)
    return network, EmbeddingTower(fused, teacher.preprocess.on_stored(), Format(channels_last=True))


def _choose(
    chooser: FormatChooser, network: nn.Module, default: EmbeddingTower, device: torch.device, batch: int
) -> Choice:
    """Choose the format of embeddings: FP32 with fused layers, or bf16 without, in either memory layout."""
    bf16 = [one for one in candidates(device, default.format) if one.precision == "bf16-mixed"]

    def convert(_: nn.Module, one: Format) -> nn.Module:
        return default.network if one == default.format else with_layout(network, one)

    shape = (batch, default.preprocess.resolution)
    return choose_for_passes(chooser, network, "embeddings", shape, [default.format, *bf16], "teacher", convert)


def _in_fastest_format(
    embedder: Embedder, chooser: FormatChooser, network: nn.Module, default: EmbeddingTower
) -> EmbeddingTower:
    """Return the tower in bf16 if that is faster on this machine and gives the same embeddings, else `default`."""
    with exact_float32(embedder.device):
        chosen = _choose(chooser, network, default, embedder.device, embedder.batch).format
    if chosen == default.format:
        return default
    faster = EmbeddingTower(with_layout(network, chosen), default.preprocess, chosen)
    rows = np.arange(min(embedder.batch, len(embedder.images)))
    sample = torch.from_numpy(embedder.images.rows(rows)).to(embedder.device)
    with torch.inference_mode(), exact_float32(embedder.device):
        cosine = float(F.cosine_similarity(faster.embed(sample).float(), default.embed(sample).float()).min())
    if cosine >= MIN_COSINE:
        return faster
    say(f"  teacher embeddings stay in FP32: the cosine of those in bf16 is {cosine:.4f}, below {MIN_COSINE}")
    return default


def shards_of(embedders: Sequence[Embedder], count: int) -> list[list[Shard]]:
    """Return the shards of the first `count` views, each as every embedder would make it on its device."""
    return [list(zip(*(_parts(each, view, count) for each in embedders), strict=True)) for view in range(count)]


def _parts(embedder: Embedder, view: int, views: int) -> list[Part]:
    total = len(embedder.images)
    found = []
    for images, key in shard_keys(embedder.identity, embedder.views, embedder.seed, view, total, embedder.shard):
        where = "" if len(images) == total else f", images {images.start + 1} to {images.stop}"
        make = partial(_embed, embedder, view, images, f"teacher embeddings, view {view + 1} of {views}{where}")
        what = f"the teacher's embeddings of view {view + 1}{where}"
        found.append(Part(key, what, make, len(images), embedder.device))
    return found


def embed_views(embedders: Sequence[Embedder], count: int) -> list[EmbeddedView]:
    """Embed the first `count` views of the images that the store lacks, with one embedder per device.

    Shards that other processes are making are left to them, and waited for at the end.
    """
    views, store = shards_of(embedders, count), embedders[0].store
    offer_shards(store, [shard for view in views for shard in view])

    def folder(part: Part) -> Path:
        return store.get(part.key, part.what, lambda folder: part.make(folder, Progress()))[0]

    return [EmbeddedView(tuple(folder(shard[0]) / "embeddings.npy" for shard in view)) for view in views]


def verify(embedder: Embedder, views: Sequence[EmbeddedView], rows: int) -> None:
    """Recompute `rows` random rows and compare them with the stored ones.

    Raises:
        CompressError: one differs; its entry is deleted, here and at a URL.
    """
    rng = np.random.default_rng()  # other rows each time
    for view, chosen in _sample_rows(rng, rows, len(views), len(embedder.images)):
        for start in range(0, len(chosen), embedder.batch):
            index = chosen[start : start + embedder.batch]
            again = torch.from_numpy(embedder.size.fit(partial(embed_rows, embedder, index, view))).float()
            cosines = F.cosine_similarity(again, torch.from_numpy(views[view].rows(index)).float())
            worst = int(cosines.argmin())
            if not bool(cosines[worst] >= MIN_COSINE):
                folder = views[view].file_of(int(index[worst])).parent
                embedder.store.discard(folder.name)
                raise CompressError(
                    f"{folder}: the stored embedding of view {view + 1} of image {index[worst]} is not the teacher's, "
                    f"their cosine is {float(cosines[worst]):.4f}; the entry was deleted, run again to make it anew"
                )


@torch.inference_mode()
def embed_rows(embedder: Embedder, index: np.ndarray, view: int, batch: int) -> np.ndarray:
    """Return the embeddings fp16 `[n, width]` of a view of the images `index`, computed in batches."""
    tower, device, outputs = embedder.tower, embedder.device, Outputs(embedder.device)
    parts = [index[start : start + batch].astype(np.int64) for start in range(0, len(index), batch)]
    with exact_float32(device):
        for part, images in zip(parts, batches_on(device, map(embedder.images.rows, parts)), strict=True):
            rendered = render(images, torch.from_numpy(part), view, embedder.seed, embedder.views)
            outputs.add(tower.embed(rendered))
        return np.concatenate(outputs.arrays())


def _embed(embedder: Embedder, view: int, images: range, title: str, folder: Path, progress: Progress) -> None:
    total = len(images)
    file, mark = folder / "embeddings.npy", folder / "scratch" / "done.json"
    numbers = str(embedder.tower.format)
    step = embedder.batch if embedder.device.type == "cpu" else BLOCK  # a GPU must not wait after each batch
    blocks = _complete_blocks(file, mark, total, numbers)
    done = min(len(blocks) * BLOCK, total)
    if done:
        say(f"  {title}: resumes after {done} of {total} images")
    with progress.task(title, total, done) as advance:
        array: np.memmap | None = np.load(file, mmap_mode="r+") if done else None
        while done < total:
            block = np.arange(done, min(done + BLOCK, total))
            for start in range(0, len(block), step):
                progress.check()
                index = block[start : start + step]
                rows = embedder.size.fit(partial(embed_rows, embedder, index + images.start, view))
                if array is None:
                    shape = (total, rows.shape[1])
                    array = np.lib.format.open_memmap(file, "w+", dtype=np.float16, shape=shape)
                array[index[0] : index[-1] + 1] = rows
                advance(len(index))
            assert array is not None
            array.flush()
            done += len(block)
            blocks.append(_digest(array[block[0] : done]))
            mark.parent.mkdir(exist_ok=True)
            write_atomic(mark, json.dumps({"blocks": blocks, "format": numbers}))


def _complete_blocks(file: Path, mark: Path, total: int, numbers: str) -> list[str]:
    """Return the digests of the first blocks that a killed run has written, up to the first damaged one.

    There are none if it computed in another format than `numbers`.
    """
    try:
        record, array = json.loads(mark.read_text()), np.load(file, mmap_mode="r")
        blocks = record["blocks"]
        if len(array) != total or array.dtype != np.float16 or record.get("format", numbers) != numbers:
            return []
        found = [_digest(array[start : start + BLOCK]) for start in range(0, total, BLOCK)]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    same = [now == then for now, then in zip(found, blocks, strict=False)]
    return found[: [*same, False].index(False)]


def _digest(rows: np.ndarray) -> str:
    return hashlib.sha256(rows.tobytes()).hexdigest()


def _sample_rows(rng: np.random.Generator, rows: int, views: int, images: int) -> list[tuple[int, np.ndarray]]:
    """Draw `rows` random rows; return views with the indices of their images."""
    places = rng.choice(views * images, min(rows, views * images), replace=False)
    return [(view, np.sort(places[places // images == view] % images)) for view in np.unique(places // images).tolist()]
