"""The text tower of an embedding student's teacher, beside the files of an export."""

from __future__ import annotations

from pathlib import Path

from compress.deployment.classes import TEXT
from compress.models.text_tower import write_text
from compress.recipe.models import OpenClipTeacher
from compress.stages.context import StageContext
from compress.stages.teacher import TeacherStage


def write_text_tower(context: StageContext, variant: str, folder: Path) -> None:
    """Write the text tower into the artifacts of an export; nothing of a variant that is not an embedding student."""
    planned = context.plan.stage(variant)
    origin = context.plan.origin(planned)
    if not planned.stage.embeds_in(context.recipe) or origin.teacher is None:
        return
    teacher = context.plan.stage(origin.teacher).stage
    assert isinstance(teacher, TeacherStage) and isinstance(teacher.teacher, OpenClipTeacher)
    write_text(teacher.teacher, folder / "artifacts" / TEXT)
