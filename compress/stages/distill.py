"""The `distill` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.fit import Distillation
from compress.recipe.loss import Maps
from compress.recipe.models import OpenClipTeacher
from compress.recipe.schema import Recipe
from compress.recipe.stage import TEACHER, StageSection
from compress.stages.network import NetworkStage
from compress.stages.teacher import TeacherStage
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
        description="id of the teacher, a `teacher`, `model` or `train` stage; or a list of several `teacher` stages, "
        "whose logits are averaged",
        json_schema_extra=_or_several,
    )

    output: Literal["logits", "embedding"] = Field(
        "logits",
        exclude_if=lambda output: output == "logits",  # recipes without it keep their store keys
        description="embedding: the student ends in the teacher's embedding space, and files give embeddings; its "
        "classes are text embeddings in a file of their own, `classes.safetensors`, which can be replaced",
    )

    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER})
    lineage: ClassVar[str] = "distilled"
    remedy: ClassVar[str] = "more epochs, views or unlabelled images, or a larger student"
    tag: ClassVar[str | None] = "knowledge-distillation"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from super().problems(recipe)
        if self.student.head == "probe":
            yield "student", "`head: probe` learns from labels alone; remove it, or use a `train` stage"
        teacher = next((stage for stage in recipe.stages if stage.id == self.from_), None)
        if self.embeds and teacher and not _has_text_side(teacher):
            what = "needs a teacher with text embeddings: one of `source: open_clip` with `head: zero-shot`"
            yield "output", f"an embedding student {what}; start from one, or remove `output`"

    @property
    def embeds(self) -> bool:
        return self.output == "embedding"

    def onnx_problem(self) -> str | None:
        maps = [f"`{name}`" for name, loss in self.losses.named().items() if isinstance(loss, Maps)]
        needs = "an ONNX file does not give; remove it"
        return f"{join_words(maps, 'and')} compares feature maps inside the teacher, which {needs}" if maps else None

    def progress(self) -> str:
        return f"distilling {self.from_}"


def _has_text_side(stage: StageSection) -> bool:
    """Whether the head of a teacher is of text embeddings."""
    teacher = stage.teacher if isinstance(stage, TeacherStage) else None
    return isinstance(teacher, OpenClipTeacher) and teacher.head == "zero-shot"
