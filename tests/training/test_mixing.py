"""Mixup and CutMix return the share of the first image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from compress.recipe.losses import Mix
from compress.training.mixing import mix_batch


def two_greys(side: int = 16) -> torch.Tensor:
    return torch.tensor([0, 200], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 3, side, side).contiguous()


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("seed", range(20))
def test_the_share_is_the_visible_part_of_the_first_image(kind: str, seed: int) -> None:
    images = two_greys()
    blend, share = mix_batch(images, Mix(kind=kind), np.random.default_rng(seed))  # type: ignore[arg-type]
    assert blend.dtype == torch.uint8 and 0 <= share <= 1
    tolerance = 0.5 / 200 if kind == "mixup" else 1e-6
    assert abs(float(blend[1].float().mean()) / 200 - share) <= tolerance
    assert abs(float(blend[0].float().mean()) / 200 - (1 - share)) <= tolerance
    if kind == "cutmix":
        assert set(blend.unique().tolist()) <= {0, 200}
    assert torch.equal(images, two_greys())  # the input is left as it is


def test_batches_are_mixed_with_the_given_probability() -> None:
    rng = np.random.default_rng(0)
    images = two_greys(8)
    shares = [mix_batch(images, Mix(kind="mixup", probability=0.25), rng)[1] for _ in range(400)]
    assert 0.2 < sum(share < 1 for share in shares) / 400 < 0.3
