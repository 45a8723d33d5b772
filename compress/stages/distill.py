"""The `distill` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.fit import Distillation
from compress.recipe.loss import Maps
from compress.recipe.schema import Recipe
from compress.recipe.stage import TEACHER
from compress.stages.kind import NetworkStage
from compress.utils.messages import join_words


def _or_several(schema: dict[str, Any]) -> None:
    """Let the schema of `from` as it is written take a list; `compress.recipe.ensembles` makes a stage of it."""
    one = {key: schema.pop(key) for key in ("type", "pattern")}
    schema["anyOf"] = [one, {"type": "array", "items": one, "minItems": 2}]


class DistillStage(NetworkStage, Distillation):
    """Distillation from a teacher, on views of labelled and unlabelled images."""

    kind: Literal["distill"]
    from_: Identifier = Field(
        alias="from",
        description="id of the teacher stage, or a list of several, whose logits are averaged",
        json_schema_extra=_or_several,
    )

    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER})
    lineage: ClassVar[str] = "distilled"
    remedy: ClassVar[str] = "more epochs, views or unlabelled images, or a larger student"
    tag: ClassVar[str | None] = "knowledge-distillation"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from super().problems(recipe)
        if self.student.head == "probe":
            yield "student", "`head: probe` learns from labels alone; remove it, or use a `train` stage"

    def onnx_problem(self) -> str | None:
        maps = [f"`{name}`" for name, loss in self.losses.named().items() if isinstance(loss, Maps)]
        needs = "an ONNX file does not give; remove it"
        return f"{join_words(maps, 'and')} compares feature maps inside the teacher, which {needs}" if maps else None

    def progress(self) -> str:
        return f"distilling {self.from_}"
