"""The `distill` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.fit import Distillation
from compress.recipe.schema import Recipe
from compress.recipe.stage import TEACHER
from compress.stages.kind import NetworkStage


class DistillStage(NetworkStage, Distillation):
    """Distillation from a teacher, on views of labelled and unlabelled images."""

    kind: Literal["distill"]
    from_: Identifier = Field(alias="from", description="id of the teacher stage")

    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER})
    lineage: ClassVar[str] = "distilled"
    remedy: ClassVar[str] = "more epochs, views or unlabelled images, or a larger student"
    tag: ClassVar[str | None] = "knowledge-distillation"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from super().problems(recipe)
        if self.student.head == "probe":
            yield "student", "`head: probe` learns from labels alone; remove it, or use a `train` stage"

    def progress(self) -> str:
        return f"distilling {self.from_}"
