"""The data section of a recipe: the parts that sources have in common. Each source declares its own section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from compress.recipe.base import Fraction, Section
from compress.utils.errors import UsageError
from compress.utils.names import same_name
from compress.utils.urls import check_url, is_url, local_path


def _template(text: str) -> str:
    if text.count("{}") != 1 or text.count("{") != 1 or text.count("}") != 1:
        raise ValueError(f"must hold {{}} once, for the class name, and no other braces: '{text[:60]}'")
    return text


Template = Annotated[str, AfterValidator(_template)]


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] > limits[1]:
        raise ValueError(f"must be two numbers, the smaller first, not {list(limits)}")
    return limits


_Area = Annotated[float, Field(gt=0, le=1)]
_Aspect = Annotated[float, Field(ge=0.1, le=10)]
_Sigma = Annotated[float, Field(ge=0.1, le=10)]


class Views(Section):
    """How a view of an image may differ from it; a view is determined by (seed, image, view number)."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(0.125, description="largest shift, as a share of the side")
    flip: bool = Field(True, description="mirror left to right, one view in two")
    brightness: Fraction = Field(0.0, description="largest relative change of brightness")
    contrast: Fraction = Field(0.0, description="largest relative change of contrast")
    saturation: Fraction = Field(0.0, description="largest relative change of saturation")
    hue: Annotated[float, Field(ge=0, le=0.5)] = Field(0.0, description="largest turn of the hue, of a whole circle")
    crop: Annotated[tuple[_Area, _Area], AfterValidator(_ordered)] | None = Field(
        None, description="random-resized-crop: least and largest share of the area; no crop without it"
    )
    ratio: Annotated[tuple[_Aspect, _Aspect], AfterValidator(_ordered)] = Field(
        (0.75, 1.3333), description="least and largest aspect ratio of the crop, width over height"
    )
    rotation: Annotated[float, Field(ge=0, le=180)] = Field(0.0, description="largest rotation in degrees, either way")
    augment: Literal["randaugment", "trivialaugment"] | None = Field(
        None, description="random operations of RandAugment or TrivialAugmentWide; none without it"
    )
    operations: int = Field(2, ge=1, le=8, description="RandAugment: operations per view")
    magnitude: int = Field(9, ge=0, le=30, description="RandAugment: strength of the operations, of 30")
    grayscale: Fraction = Field(0.0, description="share of views without colour")
    blur: Fraction = Field(0.0, description="share of views with Gaussian blur")
    sigma: Annotated[tuple[_Sigma, _Sigma], AfterValidator(_ordered)] = Field(
        (0.1, 2.0), description="least and largest standard deviation of the blur in pixels"
    )
    erasing: Fraction = Field(0.0, description="share of views with random erasing: a rectangle of grey")

    @model_validator(mode="after")
    def _no_setting_without_effect(self) -> Views:
        for key, needs, used in (
            ("ratio", "crop", self.crop is not None),
            ("operations", "augment: randaugment", self.augment == "randaugment"),
            ("magnitude", "augment: randaugment", self.augment == "randaugment"),
            ("sigma", "blur", self.blur > 0),
        ):
            if not used and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"`{key}` has no effect without `{needs}`; set it, or remove `{key}`")
        return self

    def key_settings(self) -> dict[str, object]:
        """Return the settings that determine a view, for store keys.

        The first settings are always there; those that came later only where they are not at their default, so that
        keys from before them stay.
        """
        first = self.model_dump(include={"shift", "flip", "brightness", "contrast"})
        return {**first, **self.model_dump(mode="json", exclude_defaults=True)}


PLAIN = Views(shift=0, flip=False)  # every view is the image as it is


class DataSection(Section):
    """Settings of every data source."""

    templates: list[Template] = Field(["a photo of a {}."], min_length=1, description="prompts; {} is the class name")
    prompts: dict[Annotated[str, AfterValidator(same_name)], Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="words for a class in prompts, where its name is not one"
    )
    views: Views = Views()
    validation: Fraction = Field(
        0.1, description="share of the labelled train images that is cut off for validation where no such split exists"
    )
    labeled: int | None = Field(None, ge=1, description="keep this many train labels, class-balanced; hide the others")
    held_out: list[Annotated[str, Field(min_length=1)]] = Field(
        [],
        exclude_if=lambda names: not names,
        description="classes that no student sees: their labelled images are in no other split, and those of test "
        "are for the zero-shot figures of embedding students only",
    )
    source: str

    def words(self, name: str) -> str:
        """Return the words for a class in prompts."""
        name = same_name(name)
        return (self.prompts or {}).get(name, name.replace("_", " "))

    def epoch_key_settings(self) -> dict[str, object]:
        """Return the settings that determine the order of images in training, for the store keys of fits."""
        return {}


def _possible(path: str) -> str:
    """Return a path, or refuse an empty one, which would be the working folder, and one that no file can have."""
    if not path.strip():
        raise ValueError("must not be empty; write `.` for the working folder")
    if "\0" in path:
        raise ValueError("must not hold a null character")
    return path


DataPath = Annotated[str, AfterValidator(_possible)]


def _location(text: str) -> str:
    """Return a path or URL; `file:` URLs become paths, and URLs with credentials are refused without repeating them."""
    if not _is_remote(text):
        return _possible(local_path(text))
    try:
        check_url(text)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return text


def _is_remote(path: str) -> bool:
    return is_url(path) and ("://" in path or "::" not in path)  # a folder may have :: in its name


class FileData(DataSection):
    """Settings of all sources of image files, however they are packed."""

    path: Annotated[str, AfterValidator(_location)] = Field(
        description="where the images are; shards may also be a pattern, a URL or a manifest (`.jsonl`)"
    )
    resolution: int = Field(96, ge=8, le=1024, description="side in pixels at which images are kept")
    broken: Literal["refuse", "skip"] = Field("refuse", description="what to do with a file that is not an image")
    test: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of the labelled images that is cut off for test where no such split exists"
    )
    images: Literal["pixels", "files"] = Field(
        "pixels", description="decode all images once into the store, or leave them in their files and decode batches"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode the batches of a fit with `images: files`; default: one per core"
    )
    order: Literal["images", "shards"] = Field(
        "images",
        exclude_if=lambda order: order == "images",
        description="shuffle all images of an epoch together, or shards, and with them the images of 16 at a time",
    )
    cache_gb: Annotated[float, Field(gt=0)] | None = Field(
        None,
        exclude_if=lambda size: size is None,
        description="keep about so many GB of shards at a URL on the disk and download them as they are read; "
        "default: download all before",
    )
    max_pixels: int = Field(178_956_970, ge=1, description="refuse images of more pixels")

    @model_validator(mode="after")
    def _urls_are_of_shards(self) -> FileData:
        if self.is_remote and not self.shard_endings:
            raise ValueError(f"`source: {self.source}` reads local files only; copy them, or use webdataset or parquet")
        return self

    @model_validator(mode="after")
    def _lazy_shards_are_shuffled_by_shard(self) -> FileData:
        if self.order == "shards" and not (self.shard_endings and self.images == "files"):
            raise ValueError("`order: shards` needs `images: files` and a source with shards; remove it")
        if self.cache_gb is not None and not self.is_remote:
            raise ValueError("`cache_gb` is for shards at a URL; remove it")
        if self.cache_gb is not None and self.images == "files" and self.order != "shards":
            raise ValueError("`cache_gb` needs `order: shards`: each batch would need another copy of most shards")
        return self

    def epoch_key_settings(self) -> dict[str, object]:
        return {} if self.order == "images" else {"order": self.order}

    @property
    def is_remote(self) -> bool:
        """Whether the images are at a URL."""
        return _is_remote(self.path)

    @property
    def shard_endings(self) -> tuple[str, ...]:
        """Extensions of the shards of a source, which may be at a URL or in a manifest; none for other sources."""
        return ()


class LabelledData(FileData):
    """Settings of sources whose labels are values and not folders."""

    classes: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="names in the order of the labels; without it, the source's own, or the train labels, sorted"
    )


class TableData(LabelledData):
    """Settings of tables: a row per image. A row without a label is an unlabelled image."""

    label: str = Field("label", description="column of the labels: text, or whole numbers from 0")
    split: str | None = Field(None, description="column that says train, validation, test or unlabeled")
