"""The `teacher` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.models.checks import model_problems
from compress.models.fingerprint import READER, embedding_id, teacher_weights_id
from compress.models.names import LOCAL, tagged
from compress.recipe.data import PLAIN, FileData
from compress.recipe.models import ClassifierTeacher, OpenClipTeacher, Teacher
from compress.recipe.schema import Recipe
from compress.stages.existing import ExistingNetwork
from compress.stages.kind import IDENTITY
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import TEACHER_PACKAGES

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class TeacherStage(ExistingNetwork):
    """A pretrained teacher, evaluated like every other variant."""

    kind: Literal["teacher"]
    teacher: Teacher

    maker: ClassVar[str] = "compress.stages.teacher.make:make_teacher"
    named_sections: ClassVar[tuple[str, ...]] = ("teacher",)

    @property
    def network(self) -> OpenClipTeacher | ClassifierTeacher:
        return self.teacher

    def progress(self) -> str:
        return "evaluating the teacher"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from (("teacher", message) for message in self.weights_problems())
        tag = self.teacher.pretrained if isinstance(self.teacher, OpenClipTeacher) else None
        for message in model_problems(self.teacher.source, tagged(self.teacher.model, tag)):
            yield "teacher", message

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        exclude: Any = {
            **dict.fromkeys(IDENTITY, True),
            "teacher": {"batch", "shard", "pretraining", "fine_tuning", "classes"},
        }
        settings = self.model_dump(mode="json", exclude=exclude)
        settings["teacher"]["checkpoint"] = None  # the content of the file counts, not its path
        if not isinstance(self.teacher, OpenClipTeacher):
            settings["reader"] = READER
            if self.teacher.classes:  # so that other recipes keep their keys
                settings["teacher"]["classes"] = self.teacher.classes
        if self.teacher.model.startswith(LOCAL):
            settings["teacher"]["model"] = LOCAL
        if isinstance(recipe.data, FileData):
            settings["pixels"] = "originals"  # what it is evaluated on; older versions did on stored squares
        prompts = {"templates": recipe.data.templates, "prompts": recipe.data.prompts}
        return {**settings, **prompts, "weights": teacher_weights_id(self.teacher)}

    def packages(self) -> tuple[str, ...]:
        return TEACHER_PACKAGES

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        data = costs.data
        cost = costs.inference(planned, len(data.test) + len(data.validation))
        if self.teacher.head == "probe":
            for split in (data.train, data.validation):
                cost += costs.embeddings(planned, [split], PLAIN, 1)
        return cost

    def embedding_id(self, planned: PlannedStage) -> dict[str, str]:
        return embedding_id(self.teacher)
