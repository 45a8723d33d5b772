"""Teachers, students and own models: the networks that a recipe names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from compress.recipe.base import Section
from compress.utils.interpolation import Interpolation

SHARD = 65_536  # images per stored file of a teacher's embeddings


class Pretraining(Section):
    """Compute of a training of the teacher itself, which the training ledger does not include."""

    samples: float = Field(gt=0, description="training samples seen, over all epochs")
    macs_per_sample: float = Field(gt=0, description="MACs per sample, forward and backward")
    source: str = Field(description="where the figures come from")

    @property
    def macs(self) -> float:
        return self.samples * self.macs_per_sample


Option = bool | int | float | str  # value of an extra keyword argument for the model factory of a library
Channels = tuple[float, float, float]
_Mean = Annotated[float, Field(ge=0, le=1)]  # of a channel, on the scale 0 to 1
_Std = Annotated[float, Field(gt=0, le=1)]
Mean = tuple[_Mean, _Mean, _Mean]
Std = tuple[_Std, _Std, _Std]


Ema = Annotated[
    bool | None,
    Field(
        exclude_if=lambda ema: ema is None,  # recipes without it keep their store keys
        description="whether to take the moving average from a checkpoint that has both; default: true",
    ),
]
WITHOUT_WEIGHTS: tuple[Channels, Channels] = ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
"""Mean and standard deviation per channel of a network that starts without weights."""


class OpenClipTeacher(Section):
    """An open_clip model; its zero-shot head is built from the prompts of the data."""

    source: Literal["open_clip"]
    model: str = Field(description="open_clip model name, or local-dir:FOLDER")
    pretrained: str | None = Field(None, description="open_clip tag of pretrained weights")
    checkpoint: str | None = Field(None, description="local weights file, instead of `pretrained`")
    head: Literal["zero-shot", "probe"] = Field(
        "zero-shot", description="zero-shot: text embeddings of prompts; probe: linear classifier fitted on labels"
    )
    batch: int = Field(64, ge=1, description="batch size for computing embeddings")
    shard: int = Field(SHARD, ge=1, description="images per stored file of embeddings, which any worker may make")
    pretraining: Pretraining | None = Field(None, description="training compute of its weights, if known")
    fine_tuning: Pretraining | None = Field(None, description="compute of fine-tuning these weights, if they were")


class ClassifierTeacher(Section):
    """A timm or torchvision classifier, trained for the classes of the data or with a probe for a head."""

    source: Literal["timm", "torchvision"]
    model: str = Field(
        description="model name, with or without a tag of its weights (timm: resnet18.a1_in1k, torchvision: "
        "resnet50.IMAGENET1K_V2), or timm's hf-hub:OWNER/NAME or local-dir:FOLDER"
    )
    checkpoint: str | None = Field(None, description="local weights file (configs/README.md#checkpoints)")
    ema: Ema = None
    pretrained: bool = Field(False, description="download the library's pretrained weights")
    head: Literal["own", "probe"] = Field(
        "own",
        exclude_if=lambda head: head == "own",  # recipes without it keep their store keys
        description="own: of the checkpoint, for the classes of the data; probe: linear classifier fitted on the "
        "features before it, so that weights for other classes can teach",
    )
    classes: list[str] | None = Field(
        None, description="class names in output order, matched to the data's; default: those in the checkpoint"
    )
    resolution: int | None = Field(None, ge=8, description="input resolution in pixels; default: the library's")
    batch: int = Field(64, ge=1, description="batch size for computing embeddings")
    shard: int = Field(SHARD, ge=1, description="images per stored file of embeddings, which any worker may make")
    pretraining: Pretraining | None = Field(None, description="training compute of its weights, if known")
    fine_tuning: Pretraining | None = Field(None, description="compute of fine-tuning these weights, if they were")


SingleTeacher = Annotated[OpenClipTeacher | ClassifierTeacher, Field(discriminator="source")]


def _or_ids(schema: dict[str, Any]) -> None:
    """Let the schema of members as they are written take ids, which `compress.recipe.ensembles` replaces."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class EnsembleTeacher(Section):
    """Several teachers as one, as `from: [a, b]` of a `distill` stage makes it."""

    source: Literal["ensemble"]
    members: list[SingleTeacher] = Field(
        min_length=2,
        max_length=16,
        description="the teachers: sections, or ids of teacher stages of the recipe",
        json_schema_extra=_or_ids,
    )
    combine: Literal["logits", "embeddings"] = Field(
        "logits",
        description="logits: the mean of the members' logits; embeddings: a probe fitted on their embeddings, each of "
        "length 1. Losses on embeddings see all of them, concatenated",
    )
    batch: int = Field(64, ge=1, description="batch size for computing embeddings")
    shard: int = Field(SHARD, ge=1, description="images per stored file of embeddings, which any worker may make")

    @property
    def head(self) -> Literal["own", "probe"]:
        """Whether a head has to be fitted: the ensemble's own, or that of a member."""
        fitted = self.combine == "embeddings" or any(member.head == "probe" for member in self.members)
        return "probe" if fitted else "own"

    @property
    def pretraining(self) -> Pretraining | None:
        """Training compute of the members' weights, if it is known of all."""
        return _summed([member.pretraining for member in self.members])

    @property
    def fine_tuning(self) -> Pretraining | None:
        """Compute of fine-tuning the members' weights, where they were."""
        return _summed([member.fine_tuning for member in self.members if member.fine_tuning])


def _summed(parts: Sequence[Pretraining | None]) -> Pretraining | None:
    stated = [part for part in parts if part]
    if not stated or len(stated) < len(parts):
        return None
    source = "; ".join(dict.fromkeys(part.source for part in stated))
    return Pretraining(samples=1, macs_per_sample=sum(part.macs for part in stated), source=source)


Teacher = Annotated[OpenClipTeacher | ClassifierTeacher | EnsembleTeacher, Field(discriminator="source")]


class Student(Section):
    """A timm or torchvision classifier; its head is resized to the classes of the data."""

    library: Literal["timm", "torchvision"] = Field("timm", description="model library")
    model: str = Field(
        description="model name, with or without a tag of its weights (timm: resnet18.a1_in1k, torchvision: "
        "resnet50.IMAGENET1K_V2), or timm's hf-hub:OWNER/NAME or local-dir:FOLDER"
    )
    options: dict[str, Option] = Field({}, description="extra keyword arguments for the model factory")
    pretrained: bool = Field(False, description="start from the library's pretrained weights")
    checkpoint: str | None = Field(None, description="start from a local weights file (configs/README.md#checkpoints)")
    ema: Ema = None
    head: Literal["trained", "probe"] = Field(
        "trained",
        exclude_if=lambda head: head == "trained",  # recipes without it keep their store keys
        description="probe: linear classifier fitted on the frozen features, instead of training; in `train` only",
    )
    resolution: int | None = Field(
        None, ge=8, le=1024, description="input resolution in pixels; default: the data's own"
    )
    mean: Mean | None = Field(
        None, description="normalization mean per channel; default: the weights' own, 0.5 without any"
    )
    std: Std | None = Field(
        None, description="normalization std per channel; default: the weights' own, 0.25 without any"
    )
    pretraining: Pretraining | None = Field(
        None,
        exclude_if=lambda stated: stated is None,
        description="training compute of the weights that it starts from, if known",
    )


class OwnModel(Section):
    """A trained network that is used as it is."""

    source: Literal["timm", "torchvision", "open_clip", "variant", "onnx"] = Field(
        description="library of the model; variant: a network that this package stored; onnx: an ONNX file"
    )
    model: str = Field(
        description="model name in the library; variant: a store entry, RUN/VARIANT or artifact; onnx: the file"
    )
    checkpoint: str | None = Field(None, description="local weights file; default: the library's published weights")
    pretrained: str | None = Field(None, description="open_clip tag of published weights; `source: open_clip` only")
    ema: Ema = None
    options: dict[str, Option] = Field({}, description="extra keyword arguments for the model factory")
    classes: list[Annotated[str, Field(min_length=1)]] | None = Field(
        None, description="class names in output order, matched to the data's; default: those in the checkpoint"
    )
    resolution: int | None = Field(None, ge=8, le=1024, description="input side in pixels; default: the weights' own")
    mean: Mean | None = Field(None, description="normalization mean per channel; default: the weights' own")
    std: Std | None = Field(None, description="normalization std per channel; default: the weights' own")
    interpolation: Interpolation | None = Field(None, description="filter of the resize; default: the weights' own")
    crop_pct: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="share of the resized side that the centre crop keeps; default: the weights' own"
    )
    resize: int | None = Field(
        None, ge=8, le=4096, description="shorter side in pixels before the centre crop, instead of `crop_pct`"
    )
    batch: int = Field(64, ge=1, description="batch size for computing embeddings when it teaches")
    shard: int = Field(SHARD, ge=1, description="images per stored file of these embeddings")
    pretraining: Pretraining | None = Field(None, description="training compute of its weights, if known")
    fine_tuning: Pretraining | None = Field(None, description="compute of fine-tuning these weights, if they were")
