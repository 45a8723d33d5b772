"""The base model of all records of a run, and the kinds of value in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

Count = Annotated[int, Field(ge=0)]
"""A whole number that is not negative."""

Fraction = Annotated[float, Field(ge=0, le=1)]
"""A fraction from 0 to 1, never percent."""

Number = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A number that stays whole in JSON where it is whole."""

Hexadecimal = Annotated[str, Field(pattern="^[0-9a-f]*$")]
"""Figures of single images, in hexadecimal digits."""

Interval = tuple[float, float]
"""Lower and upper end."""

OpenInterval = tuple[float | None, float | None]
"""Lower and upper end; null where there is no bound."""

PAIRED_OR_BALANCED = "Tango's paired score interval; of balanced accuracy, made of Tango's by class"
"""Interval of a difference of two accuracies, in descriptions."""

Censored = Literal["baseline", "variant", "both"]
"""Which of two curves of training never reaches an accuracy."""

MacsBracket = tuple[Count, Count | None]
"""MACs below and at or above something; null where it is never reached."""


class Record(BaseModel):
    """A part of `results.json`, or of a file that a stage leaves in the store.

    Records are immutable. Keys that a reader does not know are ignored, so that it can read what a later version of the
    same `schema_version` adds; NaN and infinity are refused.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, validate_by_name=True, serialize_by_alias=True
    )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record from a JSON file.

        Raises:
            OSError: the file cannot be read.
            ValueError: it does not hold such a record.
        """
        return cls.model_validate_json(path.read_bytes())

    def write(self, path: Path) -> None:
        """Write the record to a JSON file."""
        path.write_text(self.to_json())

    def to_json(self) -> str:
        """The record as indented JSON."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)


def absent(description: str) -> Any:
    """A field whose key is left out of the JSON where it does not apply, which in Python is None."""
    return Field(None, description=description, exclude_if=lambda value: value is None)
