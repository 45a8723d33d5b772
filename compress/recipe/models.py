"""The networks that a recipe names: teachers and students."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from compress.recipe.base import Section


class Pretraining(Section):
    """What a teacher's own training has cost, of which the training ledger holds nothing."""

    samples: float = Field(gt=0, description="samples seen, each pass over the data counted")
    macs_per_sample: float = Field(gt=0, description="multiply-accumulates of forward and backward pass")
    source: str

    @property
    def macs(self) -> float:
        return self.samples * self.macs_per_sample


class OpenClipTeacher(Section):
    """Any model of open_clip; its zero-shot head is made from the prompts of the data."""

    source: Literal["open_clip"]
    model: str = Field(description="a name that open_clip lists, or local-dir:FOLDER")
    pretrained: str | None = Field(None, description="open_clip's tag of published weights")
    checkpoint: str | None = Field(None, description="a local weights file, instead of `pretrained`")
    head: Literal["zero-shot", "probe"] = Field(
        "zero-shot", description="from the prompts of the data, or a linear classifier fitted on the train labels"
    )
    batch: int = Field(64, ge=1, description="images that it embeds at once")
    pretraining: Pretraining | None = None


class ClassifierTeacher(Section):
    """Any timm or torchvision classifier that was trained for the classes of the data."""

    source: Literal["timm", "torchvision"]
    model: str
    checkpoint: str | None = Field(None, description="local weights (.safetensors, or .pth read without pickle)")
    pretrained: bool = Field(False, description="download the library's own weights")
    classes: list[str] | None = Field(
        None, description="names of its outputs, in their order, where its file does not say them; they are checked"
    )
    resolution: int | None = Field(None, ge=8, description="side in pixels; without it, the library's own")
    batch: int = Field(64, ge=1, description="images that it embeds at once")
    pretraining: Pretraining | None = None


Teacher = Annotated[OpenClipTeacher | ClassifierTeacher, Field(discriminator="source")]


class Student(Section):
    """Any timm or torchvision classifier; its head is fitted to the classes."""

    library: Literal["timm", "torchvision"] = "timm"
    model: str
    options: dict[str, bool | int | float | str] = Field({}, description="what the library's builder takes besides")
    pretrained: bool = Field(False, description="start from the library's published weights")
    checkpoint: str | None = Field(None, description="start from a local .safetensors file")
    resolution: int | None = Field(None, ge=8, le=1024, description="side in pixels; without it, the data's own")
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
