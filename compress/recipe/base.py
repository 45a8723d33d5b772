"""Base class and field types shared by the sections of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

Share = Annotated[float, Field(gt=0, lt=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]


def _below_one(remedy: str) -> Callable[[float], float]:
    """Return a validator of fractions that refuses 1, which is a percentage or a count by mistake."""

    def check(value: float) -> float:
        if not 0 <= value < 1:
            raise ValueError(f"must be a fraction in [0, 1), not {value:g}; {remedy}")
        return value

    return check


_BELOW_ONE = WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1})
AccuracyLoss = Annotated[float, AfterValidator(_below_one("write 0.01 for one point")), _BELOW_ONE]
StepShare = Annotated[
    float, AfterValidator(_below_one("write a fraction of the steps, such as 0.05, not epochs")), _BELOW_ONE
]


class Section(BaseModel):
    """Base of all sections: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)
