"""Base of the kinds that create a student and train it. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from compress.models.checks import model_problems
from compress.models.fingerprint import READER, folder_files, weights_files
from compress.models.names import LOCAL, WITH_WEIGHTS
from compress.recipe.fit import Distillation, Fit
from compress.recipe.models import WITHOUT_WEIGHTS, Option, Pretraining, Student
from compress.recipe.stage import NETWORK
from compress.stages.kind import StageKind
from compress.stages.planned import PlannedStage
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe
    from compress.stages.costs import Cost, CostModel, NetworkCost, Use


class NetworkStage(StageKind, Fit):
    """A stage that creates a student and trains it."""

    student: Student

    maker: ClassVar[str] = "compress.stages.fitting:make_network"
    brings_network: ClassVar[bool] = True
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    named_sections: ClassVar[tuple[str, ...]] = ("student",)

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        yield None, self

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        features = isinstance(self, Distillation) and self.needs_features and not self.embeds
        yield from student_problems(self.student, features=features)

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = super().key_settings(recipe)
        settings["student"].pop("pretraining", None)
        if self.starts_trained:
            settings["student"]["reader"] = READER
        if self.student.checkpoint:  # the content of the file counts, not its path
            settings["student"]["checkpoint"] = self._checkpoint_digest(self.student.checkpoint)
        elif not self.starts_trained:
            for name, default in zip(("mean", "std"), WITHOUT_WEIGHTS, strict=True):
                settings["student"][name] = list(getattr(self.student, name) or default)
        if self.student.model.startswith(LOCAL):
            settings["student"]["model"] = LOCAL + "+".join(map(file_digest, folder_files(self.student.model)))
        return settings

    def library_model(self) -> tuple[str, str, dict[str, Option]] | None:
        return self.student.library, self.student.model, self.student.options

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.fit(planned, self)

    def profile(self, planned: PlannedStage, costs: CostModel, use: Use) -> NetworkCost:
        return costs.student(self.student, use, costs.embedding_width(planned))

    def pretraining(self) -> Pretraining | None:
        return self.student.pretraining

    def named_models(self) -> tuple[tuple[str, str], ...]:
        return ((self.student.library, self.student.model),)

    @property
    def starts_trained(self) -> bool:
        """Whether the student starts from weights that were trained before the run."""
        return _starts_trained(self.student)

    def _checkpoint_digest(self, path: str) -> str:
        try:
            return "+".join(map(file_digest, weights_files(path)))
        except OSError as error:
            message = f"cannot read checkpoint {path}; correct `student.checkpoint`"
            raise CompressError(f"stage {self.id}: {message}") from error


def _starts_trained(student: Student) -> bool:
    return student.pretrained or student.checkpoint is not None or student.model.startswith(WITH_WEIGHTS)


def student_problems(student: Student, *, features: bool) -> Iterator[tuple[str, str]]:
    """Yield (key, message) for what is wrong with a student; `features`: whether a loss reads its features."""
    if student.pretrained and student.checkpoint:
        yield "student", "`pretrained` and `checkpoint` exclude each other; remove one"
    weights = student.pretrained or student.checkpoint is not None
    if student.pretraining and not _starts_trained(student):
        yield "student", "`pretraining` is of published weights, and it starts from random ones; remove it"
    for message in model_problems(student.library, student.model, student.options, weights=weights, features=features):
        yield "student", message
