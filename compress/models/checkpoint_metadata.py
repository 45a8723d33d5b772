"""Class names and preprocessing that a weights file, or a file beside it, says about its network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compress.data.geometry import INTERPOLATIONS
from compress.models.fingerprint import weights_files
from compress.models.safe_pickle import Inert, plain

CLASSES = (
    *("classes", "class_names", "CLASSES", "label_names", "names", "labels", "categories"),
    *("class_to_idx", "label2id", "idx_to_class", "id2label"),
)
SECTIONS = (
    *("args", "hyper_parameters", "hparams", "config", "cfg", "meta", "metadata", "dataset_meta", "pretrained_cfg"),
    *("model_args", "preprocess", "train_args", "extra"),
)
"""Where training scripts keep settings, besides the top of the file."""
SIDES = ("input_size", "img_size", "image_size", "resolution", "val_crop_size", "crop_size")  # of the input, in pixels

RESIZES = ("resize", "resize_size", "val_resize_size")  # shorter side before the crop, in pixels


@dataclass(frozen=True)
class StoredPreprocess:
    """Preprocessing that a file states; None for what it does not."""

    mean: tuple[float, float, float] | None = None  # of each channel, on the scale 0 to 1
    std: tuple[float, float, float] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None  # side of the crop as a share of the shorter side after the resize
    resize: int | None = None  # that side in pixels, where the file states it
    input_size: int | None = None  # side of the input in pixels


def metadata_beside(path: Path, about: Any, whole: Any = None) -> list[Mapping[str, Any]]:
    """Collect what is said about the network in `path`, the nearest first.

    Args:
        path: The weights file. Beside it may be the `architecture.json` of a stage, or the `config.json` of timm.
        about: Metadata of a `.safetensors` file, or the content of a training checkpoint.
        whole: A pickled module, whose attributes count too.
    """
    found = []
    for value in (about, whole.state if isinstance(whole, Inert) else None):
        if isinstance(value, Mapping):
            found += [value, *_sections(value, 2)]
    for file in weights_files(str(path))[1:]:
        if content := _json(file):
            found += [content, *_sections(content, 2)]
    return found


def _sections(value: Mapping[str, Any], depth: int) -> Iterable[Mapping[str, Any]]:
    for name in SECTIONS if depth else ():
        inner = plain(_parsed(value.get(name)))
        if isinstance(inner, Mapping):
            yield inner
            yield from _sections(inner, depth - 1)


def _json(path: Path) -> Mapping[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, Mapping) else None


def _parsed(value: Any) -> Any:
    """Read the JSON in a string: the metadata of `.safetensors` files are strings."""
    if isinstance(value, str) and value[:1] in "[{0123456789" and value:
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def stored_classes(about: Iterable[Mapping[str, Any]]) -> tuple[str, ...] | None:
    """Return the class names in the order of the outputs, from the first place that has them."""
    values = (_parsed(section.get(name)) for section in about for name in CLASSES)
    return next((names for value in values if (names := _names(plain(value)))), None)


def _names(value: Any) -> tuple[str, ...] | None:
    """Read a list of names, names by output (`0` or `"0"`), or outputs by name."""
    if isinstance(value, Mapping):
        if not all(isinstance(name, str | int) for name in (*value, *value.values())):
            return None
        turned = {str(key): name for key, name in value.items()}
        if not all(key.isdecimal() for key in turned) or all(isinstance(index, int) for index in value.values()):
            turned = {str(index): name for name, index in value.items()}
        value = [turned.get(str(index)) for index in range(len(turned))]
    names = plain(value)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        return None
    return tuple(names) if names and len(set(names)) == len(names) else None


def stored_preprocess(about: Iterable[Mapping[str, Any]]) -> StoredPreprocess:
    """Return the preprocessing from the places that state it, the first of each value."""
    sections = list(about)

    def first(*names: str) -> Any:
        found = (plain(_parsed(section.get(name))) for section in sections for name in names)
        return next((value for value in found if value is not None), None)

    mean, std = _triple(first("mean")), _triple(first("std"))
    side = first(*SIDES)
    side = side[-1] if isinstance(side, list | tuple) and side else side
    crop, resize, interpolation = first("crop_pct"), first(*RESIZES), first("interpolation")
    if mean and std and max(*mean, *std) > 1:  # on the scale 0 to 255
        mean, std = _scaled(mean), _scaled(std)
    known = mean is not None and std is not None and min(std) > 0
    return StoredPreprocess(
        mean=mean if known else None,
        std=std if known else None,
        interpolation=interpolation if interpolation in INTERPOLATIONS else None,
        crop_pct=float(crop) if _positive(crop) and crop <= 1 else None,
        resize=resize if isinstance(resize, int) and _positive(resize) else None,
        input_size=side if isinstance(side, int) and _positive(side) else None,
    )


def _scaled(values: tuple[float, float, float]) -> tuple[float, float, float]:
    first, second, third = (value / 255 for value in values)
    return first, second, third


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


def _triple(value: Any) -> tuple[float, float, float] | None:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    if not all(isinstance(each, int | float) and math.isfinite(each) for each in value):
        return None
    return float(value[0]), float(value[1]), float(value[2])
