"""One loss of a distillation: its settings, what it needs, and how it is computed from a training step.

The losses themselves are in `compress/training/losses/`, one file each, named in `compress.registry.LOSSES`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetJsonSchemaHandler, model_serializer, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from compress.recipe.base import Section

if TYPE_CHECKING:
    from torch import Tensor


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class NumberOrSection(Section):
    """A section that a plain number may stand for."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "number"}, handler(schema)]}


class Ramp(NumberOrSection):
    """A number that changes during a fit; a plain number is constant."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    until: Annotated[float, Field(gt=0, le=1)] = Field(1.0, description="share of the steps at which `end` is reached")
    shape: Literal["linear", "cosine"] = "linear"

    @classmethod
    def constant(cls, value: float) -> Self:
        """Return the ramp that stays at `value`."""
        return cls(start=value, end=value)

    def at(self, progress: float) -> float:
        """Return the value after this share (0 to 1) of the steps."""
        done = min(1.0, progress / self.until)
        if self.shape == "cosine":
            done = 0.5 * (1 - math.cos(math.pi * done))
        return self.start + (self.end - self.start) * done

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"start": value, "end": value} if _is_number(value) else value

    @model_serializer(mode="wrap")
    def _shortest(self, handler: Any) -> Any:
        return self.start if self.start == self.end else handler(self)


class Temperature(Ramp):
    """The temperature that logits are divided by."""

    start: float = Field(gt=0)
    end: float = Field(gt=0)


@dataclass(frozen=True)
class Step:
    """One training step as a loss sees it, with b images."""

    logits: Tensor  # the student's, `[b, classes]`
    features: Tensor  # what the student's classifier reads, `[b, features]`, if a loss `reads_features`
    # the features projected to the teacher's width, `[b, width]`, if a loss `trains_projection`
    projected: Tensor | None
    teacher_logits: Tensor  # `[b, classes]`
    teacher_embeddings: Tensor  # `[b, width]`
    labels: Tensor  # int64 `[b]`, -1 for images without a label
    progress: float  # share of all steps that is done, 0 to 1
    label_smoothing: float = 0.0  # share of a label that is spread over all classes
    # draws teacher embeddings of other images, `[count, width]`; None with an online teacher
    sample_negatives: Callable[[int], Tensor] | None = None
    # feature maps `[b, c, h, w]` of student and teacher, for a loss that is a `Maps`. The student's have gone through
    # the loss's adapter if it `trains_adapter`.
    maps: tuple[Tensor, Tensor] | None = None


class Loss(NumberOrSection):
    """A loss with its weight; a plain number sets the weight."""

    trains_classifier: ClassVar[bool] = False  # whether its gradient reaches the student's own classifier
    trains_projection: ClassVar[bool] = False
    """Whether it compares `step.projected` with the teacher; the projection is trained with the student."""
    trains_adapter: ClassVar[bool] = False
    """Whether a 1x1 convolution, trained with the student, gives the student's maps the teacher's channels."""
    reads_features: ClassVar[bool] = False  # whether it reads `step.features` or `step.projected`
    needs_labels: ClassVar[bool] = False  # whether it is 0 for images without a label
    online_only: ClassVar[str | None] = None
    """Why it cannot be computed from cached embeddings; continues a sentence that starts with its name."""
    cached_only: ClassVar[str | None] = None
    """Why it cannot be computed with an online teacher; continues a sentence that starts with its name."""

    weight: Ramp = Ramp.constant(1.0)

    @classmethod
    def about(cls) -> str:
        """Return one line about the loss, with its source."""
        return (inspect.getdoc(cls) or "").split("\n")[0].rstrip(".")

    def compute(self, step: Step) -> Tensor:
        """Return the loss, unweighted: a scalar, the mean over the images that it applies to."""
        raise NotImplementedError

    def macs(self, images: int, features: int, width: int) -> int:
        """Return the MACs of its sums of products over images in a step, forward and backward.

        Args:
            images: Images of the step on one device.
            features: Width of the student's features.
            width: Width of the teacher's embeddings.
        """
        return 0

    def idle(self, batch: int, images: int) -> str | None:
        """Say why it is 0 in all steps of `batch` images per device, of `images` that are trained on; None if not."""
        return None

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: Any) -> Any:
        return {"weight": value} if _is_number(value) else value


class Maps(Loss):
    """A loss between feature maps, which are not cached: it needs `teacher: live`."""

    online_only: ClassVar[str | None] = "compares feature maps, which are not cached"

    student_layer: str = Field(description="name of a student layer with output [b, c, h, w]")
    teacher_layer: str = Field(description="name of a teacher layer with output [b, c, h, w]")
