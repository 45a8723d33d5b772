"""Several teachers as one: their embeddings are concatenated, and one linear layer maps these to logits.

The mean of linear heads is itself linear in the concatenated embeddings, so that an ensemble is cached, stored and
learned from like a single teacher.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.models.probe import Probe

Sides = tuple[Tensor, Tensor]
ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Member:
    """A teacher of an ensemble.

    Attributes:
        tower: Pixels `[b, 3, r, r]` to embeddings `[b, width]`.
        head: Embeddings to logits; None where it is a probe, which is fitted later.
        preprocess: Of the tower's pixels.
    """

    tower: nn.Module
    head: nn.Module | None
    preprocess: Preprocess


class EnsembleTower(nn.Module):
    """Images `[b, 3, r, r]` on the scale 0 to 1 to the members' embeddings, concatenated `[b, sum of widths]`.

    Each member gets the same crop, resized to its resolution and normalised as its own.

    Args:
        members: The teachers.
        unit: Whether each member's embeddings are scaled to length 1, so that none outweighs the others.
    """

    def __init__(self, members: Sequence[Member], *, unit: bool) -> None:
        super().__init__()
        self.towers = nn.ModuleList(member.tower for member in members)
        self.heads = [member.head for member in members]  # in a list: no part of this module
        self.sides = [member.preprocess.resolution for member in members]
        self.unit = unit
        for name in ("mean", "std"):
            values = torch.tensor([getattr(member.preprocess, name) for member in members])
            self.register_buffer(name, values[:, :, None, None], persistent=False)
        with torch.no_grad():
            blank = torch.zeros(1, 3, max(self.sides), max(self.sides))
            self.widths = [part.shape[1] for part in self._parts(blank)]

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(self._parts(images), dim=1)

    def _parts(self, images: Tensor) -> list[Tensor]:
        parts = []
        for number, (tower, side) in enumerate(zip(self.towers, self.sides, strict=True)):
            pixels = images if side == images.shape[-1] else _resized(images, side)
            embeddings = tower((pixels - self.mean[number]) / self.std[number])  # type: ignore[index]
            parts.append(F.normalize(embeddings, dim=-1) if self.unit else embeddings)
        return parts


def shared_preprocess(members: Sequence[Member]) -> Preprocess:
    """Return the preprocessing of an ensemble: the crop of the member with the highest resolution, not normalised."""
    largest = max((member.preprocess for member in members), key=lambda preprocess: preprocess.resolution)
    return replace(largest, mean=ZERO, std=ONE)


def mean_head(heads: Sequence[nn.Module], widths: Sequence[int], classes: int) -> nn.Linear:
    """Return the mean of the members' logits as one linear layer on their concatenated embeddings.

    A head is linear, or the identity of a classifier that teaches by its logits.
    """
    count = len(heads)
    merged = nn.Linear(sum(widths), classes)
    with torch.no_grad():
        rows = [head.weight if isinstance(head, nn.Linear) else torch.eye(classes) for head in heads]
        merged.weight.copy_(torch.cat(rows, dim=1) / count)
        merged.bias.zero_()
        for head in heads:
            if isinstance(head, nn.Linear) and head.bias is not None:
                merged.bias.add_(head.bias / count)
    return merged.eval()


def fit_mean_head(
    tower: EnsembleTower, fit: Callable[[Sides, Sides, int], Probe], train: Sides, validation: Sides, classes: int
) -> Probe:
    """Fit a probe on the embeddings of each member that has no head yet, and average the logits of all members."""
    starts = torch.tensor([0, *tower.widths]).cumsum(0).tolist()
    heads, spent, strength = [], 0, 0.0
    for head, start, end in zip(tower.heads, starts, starts[1:], strict=False):
        if head is None:
            own, other = ((embeddings[:, start:end], labels) for embeddings, labels in (train, validation))
            probe = fit(own, other, classes)
            head, spent, strength = probe.head, spent + probe.macs, max(strength, probe.strength)
        heads.append(head)
    merged = mean_head(heads, tower.widths, classes)
    with torch.no_grad():
        right = merged(validation[0].float()).argmax(1) == validation[1]
    return Probe(merged, strength, float(right.double().mean()), spent)


def _resized(images: Tensor, side: int) -> Tensor:
    resized = F.interpolate(images, (side, side), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)
