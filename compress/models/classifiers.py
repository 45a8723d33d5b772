"""Classifiers of timm and torchvision with weights, and the preprocessing that belongs to the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from compress.data.preprocess import Preprocess, preprocess_remarks
from compress.models.architecture import Architecture, Network
from compress.models.checkpoint_metadata import StoredPreprocess
from compress.models.factory import create_model, fetch_configuration, input_side, recorded
from compress.models.heads import check_output
from compress.models.names import WITH_WEIGHTS, published_preprocess
from compress.models.published import published_model
from compress.models.weights_file import Checkpoint, load_into, read_checkpoint
from compress.recipe.models import WITHOUT_WEIGHTS, Channels, Option
from compress.utils.interpolation import Interpolation

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation per channel for a checkpoint that states none."""


@dataclass(frozen=True)
class StatedPreprocess:
    """What a recipe states about preprocessing; None for the weights' own."""

    resolution: int | None = None
    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Interpolation | None = None
    crop_pct: float | None = None
    resize: int | None = None  # shorter side before the crop in pixels, instead of `crop_pct`


@dataclass(frozen=True)
class ClassifierSource:
    """A classifier of a library, and where its weights come from; random ones without `published` and `checkpoint`."""

    library: str  # `timm` or `torchvision`
    model: str  # any name of `compress.models.names`
    published: bool = False
    checkpoint: str | None = None
    ema: bool | None = None
    options: Mapping[str, Option] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None  # names of the weights' outputs, in their order
    stated: StatedPreprocess = StatedPreprocess()

    @property
    def has_weights(self) -> bool:
        return self.published or self.checkpoint is not None


def load_classifier(
    source: ClassifierSource, classes: Sequence[str], resolution: int, *, new_head: bool = False
) -> tuple[Network, tuple[str, ...]]:
    """Build a classifier and load its weights, with an output for each of `classes` in their order.

    Args:
        source: Model and weights.
        classes: Names of the data's classes.
        resolution: Side of the data's images in pixels, for networks without one of their own.
        new_head: Whether a head for other classes may be replaced: only where it is trained afterwards.

    Returns:
        The network in eval mode, and notes about what was taken of the weights.

    Raises:
        CompressError: weights are missing, damaged, of another architecture, or for other classes.
        UsageError: the library does not have the model, or it does not take the options or images of this size.
    """
    if source.model.startswith(WITH_WEIGHTS) and not source.checkpoint:
        source = replace(source, published=True)
    if source.library == "timm":
        fetch_configuration(source.model)  # what follows reads the local cache
    checkpoint = read_checkpoint(Path(source.checkpoint), ema=source.ema) if source.checkpoint else None
    if checkpoint and source.classes:
        checkpoint = replace(checkpoint, classes=source.classes, stated=True)
    preprocess = _preprocess(source, checkpoint, resolution)
    side = preprocess.resolution
    model, notes = _model(source, checkpoint, classes, side, new_head)
    check_output(model, source.model, len(classes), side)
    if source.published and source.stated != StatedPreprocess():
        own = published_preprocess(source.library, source.model, side)
        notes = (*notes, *preprocess_remarks(preprocess, own))
    name, options = recorded(source.library, source.model, source.options, pretrained=source.published)
    architecture = Architecture(
        library=source.library,
        model=name,
        options=options,
        classes=tuple(classes),
        resolution=side,
        preprocess=preprocess,
    )
    return Network(model.eval(), architecture), notes


def _model(
    source: ClassifierSource, checkpoint: Checkpoint | None, classes: Sequence[str], side: int, new_head: bool
) -> tuple[nn.Module, tuple[str, ...]]:
    if source.published and not new_head:
        return published_model(source.library, source.model, classes, side, options=source.options, own=source.classes)
    model = create_model(
        source.library, source.model, len(classes), side, pretrained=source.published, options=source.options
    )
    if checkpoint is None:
        return model, ()
    return model, load_into(model, checkpoint, str(source.checkpoint), new_head=new_head, classes=classes)


def _preprocess(source: ClassifierSource, checkpoint: Checkpoint | None, resolution: int) -> Preprocess:
    """Return the preprocessing: what the recipe states, else what the weights say, else the library's for the model."""
    stated = source.stated
    stored = checkpoint.preprocess if checkpoint else StoredPreprocess()
    published = published_preprocess(source.library, source.model, stated.resolution) if source.has_weights else None
    mean, std = IMAGENET if source.has_weights else WITHOUT_WEIGHTS
    own = published or Preprocess(resolution, mean, std)
    if not source.published or published is None:  # it shares the normalisation and filter of the published weights
        weights = checkpoint.weights if checkpoint else source.published
        side = stated.resolution or stored.input_size
        side = input_side(source.library, source.model, resolution, side, weights=weights)
        own = _as_stored(replace(own, resolution=side, resize=side, crop_mode="center"), stored)
    return as_stated(own, stated)


def _as_stored(own: Preprocess, stored: StoredPreprocess) -> Preprocess:
    """Replace what a checkpoint states; its resize in pixels and crop hold for its own input size only."""
    resize = own.resize
    if own.resolution == (stored.input_size or own.resolution):
        cropped = math.floor(own.resolution / stored.crop_pct) if stored.crop_pct else own.resolution
        resize = (stored.resize if stored.input_size else None) or cropped
    return replace(
        own,
        mean=stored.mean or own.mean,
        std=stored.std or own.std,
        interpolation=stored.interpolation or own.interpolation,  # type: ignore[arg-type]
        resize=resize,
    )


def as_stated(own: Preprocess, stated: StatedPreprocess) -> Preprocess:
    """Return the preprocessing with what a recipe states instead of the weights' own."""
    return replace(
        own,
        mean=stated.mean or own.mean,
        std=stated.std or own.std,
        interpolation=stated.interpolation or own.interpolation,
        resize=stated.resize or (math.floor(own.resolution / stated.crop_pct) if stated.crop_pct else own.resize),
    )
