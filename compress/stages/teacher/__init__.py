"""The `teacher` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from compress.models.checks import model_problems
from compress.models.fingerprint import READER, embedding_id, teacher_weights_id
from compress.models.names import LOCAL, WITH_WEIGHTS, tagged
from compress.recipe.data import FileData
from compress.recipe.models import OpenClipTeacher, Pretraining, Teacher
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, TEACHER
from compress.stages.kind import IDENTITY, StageKind
from compress.stages.planned import PlannedStage
from compress.stages.teacher_inputs import TEACHER_PACKAGES

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel, NetworkCost, Use


class TeacherStage(StageKind):
    """A pretrained teacher, evaluated like every other variant."""

    kind: Literal["teacher"]
    teacher: Teacher

    maker: ClassVar[str] = "compress.stages.teacher.make:make_teacher"
    makes: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK})
    brings_network: ClassVar[bool] = True
    named_sections: ClassVar[tuple[str, ...]] = ("teacher",)
    lineage: ClassVar[str] = "used as is"

    def progress(self) -> str:
        return "evaluating the teacher"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if self.teacher.pretrained and self.teacher.checkpoint:
            yield "teacher", "`pretrained` and `checkpoint` exclude each other; remove one"
        elif not (self.teacher.pretrained or self.teacher.checkpoint or self.teacher.model.startswith(WITH_WEIGHTS)):
            published = "an open_clip tag" if self.teacher.source == "open_clip" else "true"
            yield "teacher", f"has no weights; set `checkpoint` (a local file) or `pretrained` ({published})"
        tag = self.teacher.pretrained if isinstance(self.teacher, OpenClipTeacher) else None
        for message in model_problems(self.teacher.source, tagged(self.teacher.model, tag)):
            yield "teacher", message

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        exclude: Any = {**dict.fromkeys(IDENTITY, True), "teacher": {"batch", "pretraining", "fine_tuning", "classes"}}
        settings = self.model_dump(mode="json", exclude=exclude)
        settings["teacher"]["checkpoint"] = None  # the content of the file counts, not its path
        if not isinstance(self.teacher, OpenClipTeacher):
            settings["reader"] = READER
            # Only where they are set, so that other recipes keep their keys.
            settings["teacher"] = {k: v for k, v in settings["teacher"].items() if k != "ema" or v is not None}
            if self.teacher.classes:
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
        return costs.inference(planned, len(costs.data.test.images))

    def profile(self, planned: PlannedStage, costs: CostModel, use: Use) -> NetworkCost:
        return costs.existing(planned, use)

    def embedding_id(self, planned: PlannedStage) -> dict[str, str]:
        return embedding_id(self.teacher)

    @property
    def batch(self) -> int:
        """Batch size for computing embeddings."""
        return self.teacher.batch

    def pretraining(self) -> Pretraining | None:
        return self.teacher.pretraining

    def fine_tuning(self) -> Pretraining | None:
        return self.teacher.fine_tuning
