"""The teacher store: what the teacher says of each view, embedded once and kept.

One store entry a view of all train images, an fp16 array `[images, width]`, so that a killed run goes on with the next
view, and more views add entries without touching those that are there. Heads, prompts and temperature are not part of
it: they are applied to the embeddings afterwards.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from compress.data.arrays import Split
from compress.data.raw import StoreLike
from compress.data.views import render
from compress.hashing import key_of
from compress.models.teachers import LoadedTeacher
from compress.progress import task
from compress.recipe.schema import Views


def embed_views(
    store: StoreLike,
    load: Callable[[], LoadedTeacher],
    splits: Sequence[Split],
    views: Views,
    *,
    count: int,
    seed: int,
    batch: int,
    identity: dict[str, str],
) -> list[Path]:
    """Fill the store with `count` views of the images of `splits`, and return one file a view.

    Args:
        load: gives the teacher; called once, and only where a view is missing.
        identity: what besides the view determines an embedding: the data's key, the teacher's weights, the versions.
    """
    teacher: list[LoadedTeacher] = []
    files = []
    for view in range(count):

        def make(folder: Path, view: int = view) -> None:
            if not teacher:
                teacher.append(load())
            _embed(teacher[0], splits, views, view, count, seed, batch, folder)

        key = key_of(kind="embeddings", view=view, seed=seed, views=views.model_dump(), **identity)
        folder, _ = store.get(key, f"the teacher's embeddings of view {view + 1}", make)
        files.append(folder / "embeddings.npy")
    return files


@torch.inference_mode()
def _embed(
    teacher: LoadedTeacher,
    splits: Sequence[Split],
    views: Views,
    view: int,
    count: int,
    seed: int,
    batch: int,
    folder: Path,
) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tower = _fused(teacher.tower.to(device).to(memory_format=torch.channels_last), teacher.preprocess.resolution)
    total = sum(len(split.images) for split in splits)
    array = None
    first = 0
    with task(f"teacher embeddings, view {view + 1} of {count}", total) as advance:
        for split in splits:
            for start in range(0, len(split.images), batch):
                images = torch.from_numpy(np.array(split.images[start : start + batch])).to(device)
                indices = torch.arange(first + start, first + start + len(images), device=device)
                pixels = teacher.preprocess(render(images, indices, view, seed, views))
                embeddings = tower(pixels.contiguous(memory_format=torch.channels_last)).half().cpu().numpy()
                if array is None:
                    shape = (total, embeddings.shape[1])
                    array = np.lib.format.open_memmap(folder / "embeddings.npy", "w+", dtype=np.float16, shape=shape)
                array[first + start : first + start + len(images)] = embeddings
                advance(len(images))
            first += len(split.images)
    if array is not None:
        array.flush()


def _fused(tower: nn.Module, resolution: int) -> nn.Module:
    """On the CPU, the tower with batch-norm and activations fused into its convolutions: 1.5x on EfficientNet-Lite0."""
    if next(tower.parameters()).is_cuda:
        return tower
    example = torch.zeros(2, 3, resolution, resolution).contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # TorchScript is old, but needs no compiler on the person's machine
        try:
            traced = torch.jit.trace(tower, example)  # type: ignore[no-untyped-call]
            return torch.jit.optimize_for_inference(torch.jit.freeze(traced.eval()))
        except RuntimeError:  # an architecture that cannot be traced runs as it is
            return tower
