"""Load an own trained network with its preprocessing and classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compress.data.preprocess import Preprocess
from compress.models import class_names
from compress.models.architecture import Architecture, Network, QuantizationRecord
from compress.models.checkpoints import load_variant
from compress.models.classifiers import IMAGENET, ClassifierSource, StatedPreprocess, as_stated, load_classifier
from compress.models.names import WITH_WEIGHTS
from compress.models.onnx_classes import classifier_for, preprocess_beside
from compress.models.onnx_model import read_onnx
from compress.models.onnx_network import ONNX
from compress.models.own_files import as_teacher, model_path, onnx_file, variant_folder
from compress.models.teachers import load_teacher
from compress.models.weights_file import read_checkpoint
from compress.recipe.data import DataSection
from compress.recipe.models import OwnModel
from compress.utils.errors import CompressError

Loaded = tuple[Network, tuple[str, ...]]
"""A network in eval mode, and notes about what was taken of its weights."""


def load_own_model(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Loaded:
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


def names_classes(settings: OwnModel) -> bool:
    """Return whether the recipe, the weights or their source say which output is which class."""
    if settings.classes or settings.source in ("open_clip", "variant"):
        return True
    if path := onnx_file(settings):
        return bool(preprocess_beside(path)[1] or read_onnx(path, settings.resolution, 224).classes)
    if settings.checkpoint is not None:
        return bool(read_checkpoint(Path(settings.checkpoint), ema=settings.ema).classes)
    if settings.model.startswith(WITH_WEIGHTS):  # others are published weights of known classes
        names = class_names.stated_classes(settings.source, settings.model)
        return bool(names) or class_names.outputs(settings.source, settings.model) == class_names.IMAGENET
    return True


def _from_library(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Loaded:
    source = ClassifierSource(
        library=settings.source,
        model=settings.model,
        published=settings.checkpoint is None,
        checkpoint=settings.checkpoint,
        ema=settings.ema,
        options=settings.options,
        classes=tuple(settings.classes) if settings.classes else None,
        stated=_stated(settings),
    )
    return load_classifier(source, classes, resolution)


def _from_open_clip(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Loaded:
    network = load_teacher(as_teacher(settings), data, classes, resolution).network()
    side = network.architecture.resolution
    if settings.resolution not in (None, side):
        raise CompressError(f"{settings.model} takes images of {side} pixels; remove `resolution`")
    preprocess = as_stated(network.preprocess, _stated(settings))
    return replace(network, architecture=network.architecture.model_copy(update={"preprocess": preprocess})), ()


def _from_variant(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Loaded:
    if onnx_file(settings):
        return _from_onnx(settings, data, classes, resolution)
    return load_variant(variant_folder(model_path(settings))), ()


def _from_onnx(settings: OwnModel, data: DataSection, classes: Sequence[str], resolution: int) -> Loaded:
    path = onnx_file(settings)
    assert path
    own, names = preprocess_beside(path)
    names = tuple(settings.classes) if settings.classes else names
    side = settings.resolution or (own.resolution if own else None)
    file = read_onnx(path, side, resolution, len(names or classes))
    network, notes = classifier_for(file, names, classes, path)
    own = own or Preprocess(file.resolution, *IMAGENET, resize=file.resolution)  # whose mean and std a recipe states
    architecture = Architecture(
        library="onnx",
        model=path.name,
        classes=tuple(classes),
        resolution=file.resolution,
        preprocess=as_stated(replace(own, resolution=file.resolution), _stated(settings)),
        quantization=QuantizationRecord(method="onnxruntime", file=ONNX) if network.quantized else None,
    )
    return Network(network, architecture), notes


def _stated(settings: OwnModel) -> StatedPreprocess:
    return StatedPreprocess(
        settings.resolution, settings.mean, settings.std, settings.interpolation, settings.crop_pct, settings.resize
    )


LOADERS = {
    "timm": _from_library,
    "torchvision": _from_library,
    "open_clip": _from_open_clip,
    "variant": _from_variant,
    "onnx": _from_onnx,
}
