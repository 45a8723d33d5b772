"""MACs of a step of a distillation beside those of its networks. Imports no torch, so that plans may ask."""

from __future__ import annotations

import math

from compress.recipe.fit import Distillation


def step_macs(
    settings: Distillation,
    images: int,
    *,
    features: int,
    width: int,
    head: int,
    adapters: int = 0,
    embeds: bool = False,
) -> int:
    """Return the MACs of a step with `images` on a device, forward and backward, without those of the networks.

    They are the matrix products of projection, adapters, heads and losses. As in `compress.measurement.compute`,
    element-wise work is not counted. A loss takes a few operations per logit or number of a feature map, the layer
    that makes it a product for each of its inputs: with 512 of them the share left out is below 2%. Mixing takes
    three operations per number of an image, optimizer and moving average about ten per weight and step.

    Args:
        settings: Those of the distillation.
        images: Images of the step on one device.
        features: Width of the student's features.
        width: Width of the teacher's embeddings.
        head: Weights of the teacher's head.
        adapters: MACs per image of the adapters of feature maps, forward.
        embeds: Whether the student ends in the teacher's embedding space, so that nothing projects its features.
    """
    uses_head = settings.classifier == "teacher"
    projection = features * width if settings.needs_projection and not embeds else 0
    each = 3 * (projection + adapters) + head  # backward to inputs and weights
    each += 2 * head if uses_head else 0  # forward of the student's features, and backward to these
    pairs = sum(loss.macs(images, features, width) for loss in settings.losses.named().values())
    passes = 1 + settings.mix.probability if settings.mix else 1  # a mixed batch has two targets
    folding = head * features if uses_head else 0
    return math.ceil(passes * (images * each + pairs)) + folding
