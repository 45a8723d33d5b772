"""The data section of a recipe: the parts that sources have in common. Each source declares its own section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from compress.recipe.base import Fraction, Section


def _template(text: str) -> str:
    if text.count("{}") != 1 or text.count("{") != 1 or text.count("}") != 1:
        raise ValueError(f"must hold {{}} once, for the class name, and no other braces: '{text[:60]}'")
    return text


Template = Annotated[str, AfterValidator(_template)]


class Views(Section):
    """How a view of an image may differ from it; a view is determined by (seed, image, view number)."""

    shift: Annotated[float, Field(ge=0, le=0.5)] = Field(0.125, description="largest shift, as a share of the side")
    flip: bool = Field(True, description="mirror left to right, one view in two")
    brightness: Fraction = Field(0.0, description="largest relative change of brightness")
    contrast: Fraction = Field(0.0, description="largest relative change of contrast")


PLAIN = Views(shift=0, flip=False)  # every view is the image as it is


class DataSection(Section):
    """Settings of every data source."""

    templates: list[Template] = Field(["a photo of a {}."], min_length=1, description="prompts; {} is the class name")
    prompts: dict[str, Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="words for a class in prompts, where its name is not one"
    )
    views: Views = Views()
    validation: Fraction = Field(
        0.1, description="share of the labelled train images that is cut off for validation where no such split exists"
    )
    labeled: int | None = Field(None, ge=1, description="keep this many train labels, class-balanced; hide the others")
    source: str


class FileData(DataSection):
    """Settings of all sources of image files, however they are packed."""

    path: str
    resolution: int = Field(96, ge=8, le=1024, description="side in pixels at which images are kept")
    broken: Literal["refuse", "skip"] = Field("refuse", description="what to do with a file that is no image")
    test: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="share of the labelled images that is cut off for test where no such split exists"
    )
    images: Literal["pixels", "files"] = Field(
        "pixels", description="decode all images once into the store, or leave them in their files and decode batches"
    )
    workers: int | None = Field(
        None, ge=0, description="processes that decode the batches of a fit with `images: files`; default: one per core"
    )
    max_pixels: int = Field(178_956_970, ge=1, description="refuse images of more pixels")


class LabelledData(FileData):
    """Settings of sources whose labels are values and not folders."""

    classes: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="names in the order of the labels; without it, the source's own, or the train labels, sorted"
    )


class TableData(LabelledData):
    """Settings of tables: a row per image. A row without a label is an unlabelled image."""

    label: str = Field("label", description="column of the labels: text, or whole numbers from 0")
    split: str | None = Field(None, description="column that says train, validation, test or unlabeled")
