"""`preprocess.json`: states how images become the input of the artifact that it lies beside."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

from compress.data.geometry import CROP_MODES, INTERPOLATIONS, CropMode
from compress.data.stated import EMBEDDING, STATED, Stated, is_antialiased, require_stated
from compress.deployment.preprocess import Inputs
from compress.models.class_list import CLASSES
from compress.utils.errors import CompressError, first_line
from compress.utils.interpolation import Interpolation
from compress.utils.schema_version import PREPROCESS_VERSION, require_version

if TYPE_CHECKING:
    from compress.data.preprocess import Preprocess

PREPROCESS = "preprocess.json"
"""Version of the layout, also of files that state none; rises when a reader of the old one would err."""
Name = TypeVar("Name", bound=str)


class Resolution(TypedDict):
    """The one key that every file has."""

    resolution: int


class PreprocessFile(Stated, Resolution, total=False):
    """Content of `preprocess.json`, which an export writes beside the artifact; see `preprocess_file`.

    `load_artifact` needs `resolution`, `mean`, `std` and `classes`; to time a file, `resolution` is enough. `antialias`
    is that of the resize, `precision` that of a float network; images and logits are float32 in every precision.
    `class_list` is the file that maps embeddings to logits, where the output is embeddings.
    """

    mean: list[float]
    std: list[float]
    interpolation: Interpolation
    resize: int
    crop_mode: CropMode
    stored_resolution: int
    classes: list[str]
    class_list: str
    steps: list[str]
    antialias: bool
    precision: str
    needs: list[str]
    schema_version: int


def preprocess_file(preprocess: Preprocess, stored_resolution: int, classes: Sequence[str]) -> PreprocessFile:
    """State how images become the input of an artifact, so that code can be written from the file alone.

    Args:
        preprocess: From the original pictures if it has a `resize`, otherwise from the stored squares.
        stored_resolution: Side of the stored squares in pixels.
        classes: Names of the classes, in the order of the outputs.
    """
    content = PreprocessFile(
        schema_version=PREPROCESS_VERSION,
        resolution=preprocess.resolution,
        mean=list(preprocess.mean),
        std=list(preprocess.std),
        interpolation=preprocess.interpolation,
        antialias=is_antialiased(preprocess.interpolation),
    )
    content.update(STATED)  # type: ignore[typeddict-item]
    if preprocess.from_originals:
        content.update({"resize": preprocess.geometry.resize, "crop_mode": preprocess.crop_mode})
    else:
        content["stored_resolution"] = stored_resolution
    content.update({"steps": _steps(content), "classes": list(classes)})
    return content


def with_embeddings(content: PreprocessFile) -> PreprocessFile:
    """Return the content for a file whose outputs are embeddings, with a class list beside it."""
    last = (
        f"The output is the embedding [batch, width], of length 1. Logits are embedding x weight transposed + bias, of "
        f"{CLASSES}, in the order of classes; their softmax is the probabilities."
    )
    stated = PreprocessFile(**content)
    stated.update({"output": EMBEDDING, "class_list": CLASSES})
    if steps := content.get("steps"):
        stated["steps"] = [*steps[:-1], last]
    return stated


def for_one_image(content: PreprocessFile, last: str | None = None) -> PreprocessFile:
    """Return the content for a file that takes one image, with `last`, if given, as the step about its output."""
    stated, side = PreprocessFile(**content), content["resolution"]
    if steps := content.get("steps"):
        stated["steps"] = [
            *steps[:-2],
            f"Arrange as float32 [1, 3, {side}, {side}]: channel, row, column.",
            last or steps[-1],
        ]
    return stated


def _steps(content: PreprocessFile) -> list[str]:
    """Describe preprocessing in sentences, one per step."""
    side, kind = content["resolution"], content["interpolation"]
    exact = f"{kind}{', antialiased' if content['antialias'] else ''}, rounded to 8 bits as Pillow's Image.resize does"
    steps = [
        "Decode the first frame, apply the EXIF orientation, lay transparency on white as Pillow's alpha_composite "
        "does, map 16-bit grey to (value + 128) // 257, convert to RGB."
    ]
    if "resize" in content:
        to = content["resize"]
        sizes = f"the shorter side to {to} pixels, the longer to int({to} * longer / shorter)"
        sizes = f"both sides to {to} pixels" if content["crop_mode"] == "squash" else sizes
        steps += [
            f"Resize {sizes}: {exact}.",
            f"Crop {side} x {side} pixels from left = round((width - {side}) / 2), top = round((height - {side}) / 2), "
            f"halves to even; pad a shorter side with 0, ({side} - length) // 2 before and the rest after.",
        ]
    else:
        stored = content["stored_resolution"]
        steps.append(
            f"Resize the largest centred square to {stored} x {stored} pixels: bicubic, antialiased, as Pillow's "
            f"image.resize(({stored}, {stored}), BICUBIC, box=(left, top, left + shorter, top + shorter)) with left = "
            "(width - shorter) / 2, top = (height - shorter) / 2."
        )
        if stored != side:
            steps.append(f"Resize to {side} x {side} pixels: {exact}.")
    return [
        *steps,
        "Divide by 255, subtract mean, divide by std: three values each, for red, green and blue.",
        f"Arrange as float32 [batch, 3, {side}, {side}]: channel, row, column.",
        "The output is logits [batch, classes], in the order of classes; their softmax is the probabilities.",
    ]


def read_inputs(folder: Path) -> tuple[Inputs, tuple[str, ...]]:
    """Read how images are prepared for the artifact in a folder, and the names of its classes.

    Raises:
        CompressError: `preprocess.json` is missing, damaged, of a newer version, or has impossible values.
    """
    path, values = folder / PREPROCESS, read_preprocess(folder)
    try:
        return _inputs(values), _classes(values)
    except KeyError as error:
        raise CompressError(f"{path} is damaged: {error.args[0]} is missing") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise CompressError(f"{path} is damaged: {first_line(error)}") from error


def gives_embeddings(folder: Path) -> bool:
    """Return whether the artifact in a folder is of an embedding student; raises as `read_inputs`."""
    values = read_preprocess(folder)
    return isinstance(values, dict) and values.get("output") == EMBEDDING


def read_preprocess(folder: Path) -> Any:
    """Read the JSON in the `preprocess.json` of a folder.

    Raises:
        CompressError: it is missing, damaged, or of a newer version.
    """
    path = folder / PREPROCESS
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CompressError(f"{folder} has no {PREPROCESS}, which the export writes beside the model") from error
    except OSError as error:
        raise CompressError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CompressError(f"{path} is damaged: {first_line(error)}") from error
    require_version(values, PREPROCESS_VERSION, path)
    return values


def _inputs(values: Any) -> Inputs:
    if not isinstance(values, dict):
        raise ValueError("it is not a JSON object")
    resolution = _side(values["resolution"], "resolution")
    mean, std = _channels(values["mean"], "mean"), _channels(values["std"], "std")
    if min(std) <= 0:
        raise ValueError("std must be positive")
    interpolation = _one_of(values.get("interpolation", "bicubic"), INTERPOLATIONS, "interpolation")
    require_stated(values, EMBEDDING)
    crop_mode = _one_of(values.get("crop_mode", "center"), CROP_MODES, "crop_mode")
    stored = _side(values.get("stored_resolution", resolution), "stored_resolution")
    resize = _side(values["resize"], "resize") if "resize" in values or crop_mode != "center" else None
    return Inputs(resolution, mean, std, interpolation, stored, resize, crop_mode)


def _one_of(value: Any, known: tuple[Name, ...], name: str) -> Name:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
    return known[known.index(value)]


def _side(value: Any, name: str) -> int:
    if type(value) is not int or not 0 < value <= 65535:
        raise ValueError(f"{name} must be a side in pixels, not {value!r}")
    return value


def _channels(values: Any, name: str) -> tuple[float, float, float]:
    numbers = values if isinstance(values, list) else []
    if len(numbers) != 3 or not all(type(value) in (int, float) and math.isfinite(value) for value in numbers):
        raise ValueError(f"{name} must be three numbers, not {values!r}")
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def _classes(values: Any) -> tuple[str, ...]:
    classes = values["classes"]
    if not isinstance(classes, list) or not classes or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes must be a list of names")
    if len(set(classes)) < len(classes):
        raise ValueError("class names must be unique")
    return tuple(classes)
