"""Load an own trained network with its preprocessing and classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compress.data.preprocess import Preprocess
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import load_variant
from compress.models.factory import create_model
from compress.models.names import published_preprocess
from compress.models.own_files import as_teacher, variant_folder
from compress.models.teachers import load_teacher
from compress.models.weights_file import load_into, read_checkpoint
from compress.recipe.data import DataSection
from compress.recipe.models import OwnModel
from compress.utils.errors import CompressError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load_own_model(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Network:
    """Load the network of a `model` stage, in eval mode.

    Args:
        settings: The section `model`.
        data: Data section, for the prompts of OpenCLIP models.
        classes: Names of the data's classes, which the outputs are put into the order of.
        resolution: Side of the data's images in pixels, for networks without one of their own.

    Raises:
        CompressError: weights are missing, damaged or of another architecture, or are for other classes.
        UsageError: the library does not have the model.
    """
    return LOADERS[settings.source](settings, data, classes, resolution)


def _from_library(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Network:
    side = settings.resolution or resolution
    model = create_model(
        settings.source,
        settings.model,
        len(classes),
        side,
        pretrained=settings.checkpoint is None,
        options=settings.options,
    )
    if settings.checkpoint:
        checkpoint = read_checkpoint(Path(settings.checkpoint), ema=settings.ema)
        if settings.classes:
            checkpoint = replace(checkpoint, classes=tuple(settings.classes))
        load_into(model, checkpoint, settings.checkpoint, new_head=False, classes=classes)
    architecture = Architecture(
        library=settings.source,
        model=settings.model,
        options=settings.options,
        classes=tuple(classes),
        resolution=side,
        preprocess=_stated(settings, _own_preprocess(settings, side)),
    )
    return Network(model.eval(), architecture)


def _own_preprocess(settings: OwnModel, side: int) -> Preprocess:
    """Return the preprocessing of published weights; a local checkpoint shares only their normalisation and filter."""
    published = published_preprocess(settings.source, settings.model, settings.resolution)
    if published is None:
        return Preprocess(side, *IMAGENET)
    return published if settings.checkpoint is None else replace(published, resolution=side, resize=None)


def _from_open_clip(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Network:
    network = load_teacher(as_teacher(settings), data, classes, resolution).network()
    preprocess = _stated(settings, network.preprocess)
    if preprocess.resolution != network.architecture.resolution:
        raise CompressError(
            f"{settings.model} takes images of {network.architecture.resolution} pixels; remove `resolution`"
        )
    return Network(network.model, network.architecture.model_copy(update={"preprocess": preprocess}))


def _from_variant(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Network:
    return load_variant(variant_folder(Path(settings.model)))


def _from_onnx(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Network:
    raise CompressError("ONNX files are not supported yet")


def _stated(settings: OwnModel, own: Preprocess) -> Preprocess:
    """Return the preprocessing with what the recipe states instead of the weights' own."""
    side = settings.resolution or own.resolution
    resize = own.resize if side == own.resolution else None
    return replace(
        own,
        resolution=side,
        mean=settings.mean or own.mean,
        std=settings.std or own.std,
        interpolation=settings.interpolation or own.interpolation,
        resize=math.floor(side / settings.crop_pct) if settings.crop_pct else resize,
    )


LOADERS = {
    "timm": _from_library,
    "torchvision": _from_library,
    "open_clip": _from_open_clip,
    "variant": _from_variant,
    "onnx": _from_onnx,
}
