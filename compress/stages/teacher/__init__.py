"""The `teacher` stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.models.checks import model_problems
from compress.models.fingerprint import READER, embedding_id, teacher_weights_id
from compress.models.names import LOCAL, tagged
from compress.recipe.data import PLAIN, FileData
from compress.recipe.models import ClassifierTeacher, EnsembleTeacher, OpenClipTeacher, Teacher
from compress.recipe.schema import Recipe
from compress.recipe.stage import TEACHER
from compress.stages.existing import ExistingNetwork, weights_problems
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
    def network(self) -> OpenClipTeacher | ClassifierTeacher | EnsembleTeacher:
        return self.teacher

    @property
    def members(self) -> Sequence[OpenClipTeacher | ClassifierTeacher]:
        """The networks that teach: several in an ensemble."""
        return self.teacher.members if isinstance(self.teacher, EnsembleTeacher) else [self.teacher]

    def progress(self) -> str:
        return f"evaluating the teacher{'s' if self.members[1:] else ''}"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        for member in self.members:
            yield from (("teacher", message) for message in weights_problems(member))
            tag = member.pretrained if isinstance(member, OpenClipTeacher) else None
            for message in model_problems(member.source, tagged(member.model, tag)):
                yield "teacher", message
        if not self.members[1:]:
            return
        for other in recipe.stages:
            if self.id in other.parents() and other.starts_from != {TEACHER}:
                message = f"stage {other.id} cannot {other.kind} an ensemble; start it from one of its teachers"
                yield "teacher", message

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = self.model_dump(mode="json", exclude={**dict.fromkeys(IDENTITY, True), "teacher": True})
        keys = [_member_key(member) for member in self.members]
        if isinstance(self.teacher, EnsembleTeacher):
            settings["teacher"] = {"source": "ensemble", "members": keys, "combine": self.teacher.combine}
        else:
            settings["teacher"] = keys[0]
        if any(not isinstance(member, OpenClipTeacher) for member in self.members):
            settings["reader"] = READER
        if isinstance(recipe.data, FileData):
            settings["pixels"] = "originals"  # what it is evaluated on; older versions did on stored squares
        prompts = {"templates": recipe.data.templates, "prompts": recipe.data.prompts}
        return {**settings, **(prompts if self.has_prompts else {}), "weights": teacher_weights_id(self.teacher)}

    @property
    def has_prompts(self) -> bool:
        """Whether a head is made from the prompts of the data; where one is fitted on embeddings, none is left."""
        fitted = isinstance(self.teacher, EnsembleTeacher) and self.teacher.combine == "embeddings"
        return not fitted and any(member.head == "zero-shot" for member in self.members)

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


def _member_key(teacher: OpenClipTeacher | ClassifierTeacher) -> dict[str, Any]:
    """Return the settings of a network that determine what it teaches."""
    settings = teacher.model_dump(mode="json", exclude={"batch", "shard", "pretraining", "fine_tuning", "classes"})
    settings["checkpoint"] = None  # the content of the file counts, not its path
    if isinstance(teacher, ClassifierTeacher) and teacher.classes:  # so that other recipes keep their keys
        settings["classes"] = teacher.classes
    if teacher.model.startswith(LOCAL):
        settings["model"] = LOCAL
    return settings
