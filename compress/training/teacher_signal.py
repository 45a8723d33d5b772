"""Targets that a teacher gives its student: embeddings of views, read from a cache or computed in every step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from compress.models.teachers import LoadedTeacher
from compress.training.embedding_shards import EmbeddedView


class CachedTeacher:
    """Teacher embeddings that were computed once per view."""

    image_macs = 0  # MACs per image and step; the embeddings were charged when they were made

    def __init__(self, embedded: Sequence[EmbeddedView], head: nn.Module) -> None:
        self.embedded, self.head = list(embedded), head

    @property
    def views(self) -> int:
        return len(self.embedded)

    @property
    def width(self) -> int:
        return self.embedded[0].width

    def embeddings(self, index: Tensor, view: int, _: Tensor) -> Tensor:
        """Return embeddings float32 `[b, width]` of a view of the images `index`, on the device of `index`."""
        rows = self.embedded[view].rows(index.cpu().numpy())
        return torch.from_numpy(rows).to(index.device).float()

    def sample_negatives(self, index: Tensor, count: int, view: int, rng: np.random.Generator) -> Tensor:
        """Return embeddings float32 `[count, width]` of random images that are not in `index`; there must be some."""
        embedded = self.embedded[view]
        inside = np.unique(index.cpu().numpy())
        drawn = rng.integers(len(embedded) - len(inside), size=count)
        # From places among the images outside to their numbers, without a list of them.
        drawn += np.searchsorted(inside - np.arange(len(inside)), drawn, side="right")
        return torch.from_numpy(embedded.rows(np.sort(drawn))).to(index.device).float()


class OnlineTeacher:
    """A teacher that embeds the student's images in every step; rounded to fp16, as cached embeddings are."""

    def __init__(self, teacher: LoadedTeacher, head: nn.Module, views: int, image_macs: int = 0) -> None:
        self.image_macs = image_macs
        self.tower, self.preprocess = teacher.tower.eval(), teacher.preprocess.on_stored()
        self.head, self.views = head, views

    @cached_property
    def width(self) -> int:
        side = self.preprocess.resolution
        with torch.inference_mode():
            return int(self.tower(torch.zeros(1, 3, side, side, device=self._device)).shape[1])

    @property
    def _device(self) -> torch.device:
        return next(self.tower.parameters()).device

    def embeddings(self, index: Tensor, _: int, images: Tensor) -> Tensor:
        """Return embeddings float32 `[b, width]` of images uint8 `[b, 3, h, w]`, which are a view already."""
        if self._device != index.device:
            self.tower.to(index.device)
        with torch.no_grad(), torch.autocast(index.device.type, enabled=False):
            pixels = self.preprocess(images).contiguous(memory_format=torch.channels_last)
            return self.tower(pixels).half().float()  # type: ignore[no-any-return]


TeacherSignal = CachedTeacher | OnlineTeacher
