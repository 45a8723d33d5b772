"""What a recipe may say of the losses of a distillation. Plain data, as all of `recipe`."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.recipe.base import Identifier, Section


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class Short(Section):
    """A section in whose place a plain number may stand."""

    @classmethod
    def of(cls, number: float) -> Self:
        """The section that the number stands for."""
        return cls.model_validate(number)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "number"}, handler(schema)]}


class Ramp(Short):
    """A number that changes in the course of a fit; a plain number stays what it is."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the steps after which `end` holds")
    shape: Literal["linear", "cosine"] = "linear"

    def at(self, progress: float) -> float:
        """The value after this share (0 to 1) of the steps."""
        done = min(1.0, progress / self.until)
        if self.shape == "cosine":
            done = 0.5 * (1 - math.cos(math.pi * done))
        return self.start + (self.end - self.start) * done

    @model_validator(mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return {"start": value, "end": value} if _is_number(value) else value

    @model_serializer(mode="wrap")
    def _shortest(self, handler: Any) -> Any:
        return self.start if self.start == self.end else handler(self)


class Temperature(Ramp):
    """What logits are divided by."""

    start: float = Field(gt=0)
    end: float = Field(gt=0)


class Loss(Short):
    """A term of the objective; a number in its place is its weight."""

    weight: Ramp = Ramp.of(1.0)

    @model_validator(mode="before")
    @classmethod
    def _weighted(cls, value: Any) -> Any:
        return {"weight": value} if _is_number(value) else value


class Kd(Loss):
    """Knowledge distillation, T^2 KL of teacher and student (arXiv 1503.02531)."""

    temperature: Temperature = Field(Temperature.of(2.0), description="logits are divided by it")
    standardize: bool = Field(False, description="z-score the logits of each image first (arXiv 2403.01427)")


class Dkd(Loss):
    """Decoupled knowledge distillation (arXiv 2203.08679); images without a label have the teacher's top class."""

    temperature: Temperature = Temperature.of(4.0)
    alpha: float = Field(1.0, ge=0, description="weight of the target class against the others")
    beta: float = Field(8.0, ge=0, description="weight of the other classes among themselves")


class Dist(Loss):
    """Pearson correlation of predictions, of images and of classes (DIST, arXiv 2205.10536)."""

    temperature: Temperature = Temperature.of(1.0)
    beta: float = Field(1.0, ge=0, description="weight of the relations between classes")
    gamma: float = Field(1.0, ge=0, description="weight of the relations between images")


class Embedding(Loss):
    """Distance of the student's features, projected, from the teacher's embeddings (after arXiv 1412.6550)."""

    distance: Literal["cosine", "mse", "smooth_l1"] = "cosine"


class Crd(Loss):
    """Contrastive representation distillation (arXiv 1910.10699); negatives are the teacher's stored embeddings."""

    temperature: float = Field(0.07, gt=0)
    negatives: int = Field(4096, ge=1, description="embeddings of other images, drawn anew for each step")


class Maps(Loss):
    """A loss between feature maps; they are not stored, so it needs `teacher: live`."""

    student_layer: str = Field(description="name of a layer of the student that gives maps [b, c, h, w]")
    teacher_layer: str = Field(description="name of a layer of the teacher that gives maps [b, c, h, w]")


class Own(Loss):
    """A loss that a plugin brings."""

    options: dict[str, bool | int | float | str] = Field({}, description="what its function takes besides")


class Losses(Section):
    """The terms of the objective, each with its weight; those that are not named are not computed."""

    ce: Loss | None = Field(None, description="cross-entropy, on the labelled images only")
    kd: Kd | None = None
    dkd: Dkd | None = None
    dist: Dist | None = None
    embedding: Embedding | None = None
    rkd_distance: Loss | None = Field(None, description="distances between images (arXiv 1904.05068)")
    rkd_angle: Loss | None = Field(None, description="angles between images (arXiv 1904.05068)")
    crd: Crd | None = None
    attention: Maps | None = Field(None, description="attention transfer (arXiv 1612.03928)")
    hint: Maps | None = Field(None, description="feature hints with an adapter made to fit (arXiv 1412.6550)")
    own: dict[Identifier, Own] = Field({}, description="losses of plugins, by the name that they were registered by")

    def named(self) -> dict[str, Loss]:
        """The terms that are there, by name; those of plugins as `own.NAME`."""
        shipped = {name: getattr(self, name) for name in type(self).model_fields if name != "own"}
        named = {name: loss for name, loss in shipped.items() if loss is not None}
        return named | {f"own.{name}": loss for name, loss in self.own.items()}


class Mix(Section):
    """Images mixed in pairs: mixup (arXiv 1710.09412) or CutMix (arXiv 1905.04899).

    Labels are mixed. Of a stored teacher its answers to both images are mixed; a live one sees the mixed image.
    """

    kind: Literal["mixup", "cutmix"]
    alpha: float = Field(1.0, gt=0, description="the share of the first image is drawn from Beta(alpha, alpha)")
    probability: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the batches that are mixed")
