"""The `distill` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.fit import Distillation
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

    def progress(self) -> str:
        return f"distilling {self.from_}"
