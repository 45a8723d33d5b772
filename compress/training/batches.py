"""How many images a step and a device have. Imports no torch."""

from __future__ import annotations


def device_batch(batch: int, world: int) -> int:
    """Return the images of a step on each of `world` devices."""
    return max(1, batch // world)


def step_images(images: int, batch: int, world: int) -> int:
    """Return the images of a step on `world` devices together, of which there are `images` in an epoch.

    Fewer than fill a step are one step: all devices have as many, some of them twice.
    """
    whole = device_batch(batch, world) * world
    return whole if images >= whole else -(-images // world) * world


def epoch_images(images: int, batch: int, world: int = 1) -> int:
    """Return the images that an epoch trains on: those of whole steps, at least one."""
    step = step_images(images, batch, world)
    return max(1, images // step) * step


def rank_images(images: int, world: int, rank: int) -> int:
    """Return how many of the `images` that are dealt out in turn are a rank's; those after them are repeated ones."""
    return len(range(rank, images, world))
