"""What only makes sense together: keys of one section that need or exclude each other."""

from __future__ import annotations

from collections.abc import Iterator

from compress.errors import Problem
from compress.recipe.schema import (
    Distillation,
    DistillStage,
    OpenClipTeacher,
    PruneStage,
    Recipe,
    Student,
    Teacher,
    TeacherStage,
    TrainStage,
)
from compress.recipe.yaml_lines import Node

BRING_THEIR_WEIGHTS = ("local-dir:", "hf-hub:")  # open_clip's own prefixes


def section_problems(recipe: Recipe, root: Node) -> Iterator[Problem]:
    """What is wrong inside the stages of a recipe whose values are right one by one."""
    for index, stage in enumerate(recipe.stages):
        found: list[tuple[str, str | None]] = []
        if isinstance(stage, TeacherStage):
            found.append(("teacher", _weights(stage.teacher)))
        if isinstance(stage, TrainStage | DistillStage):
            found.append(("student", _start(stage.student)))
            found.append(("student", _options(stage.student)))
        if isinstance(stage, DistillStage):
            found.append(("kd_weight", _losses(stage)))
        if isinstance(stage, PruneStage):
            found.append(("repair", _losses(stage.repair)))
        for key, message in found:
            if message:
                yield Problem(_place(root, index, key), f"stages.{stage.id}.{key}: {message}")


def _place(root: Node, index: int, key: str) -> str:
    stages = root.child("stages")
    stage = stages.child(index) if stages else None
    node = (stage.child(key) or stage) if stage else root
    return node.place


def _weights(teacher: Teacher) -> str | None:
    if teacher.pretrained and teacher.checkpoint:
        return "takes `pretrained` or `checkpoint`, not both"
    if teacher.pretrained or teacher.checkpoint:
        return None
    if isinstance(teacher, OpenClipTeacher):
        if teacher.model.startswith(BRING_THEIR_WEIGHTS):
            return None
        return "has no weights; give `pretrained` (open_clip's tag) or `checkpoint` (a local file)"
    return "has no weights; give `checkpoint` (a local file) or `pretrained: true`"


def _start(student: Student) -> str | None:
    return "starts from `pretrained` or `checkpoint`, not both" if student.pretrained and student.checkpoint else None


def _options(student: Student) -> str | None:
    taken = sorted({"num_classes", "img_size", "pretrained", "weights"} & student.options.keys())
    return f"`options` may not set {', '.join(taken)}: the recipe does so elsewhere" if taken else None


def _losses(fit: Distillation) -> str | None:
    if fit.kd_weight + fit.ce_weight == 0:
        # The embedding's loss does not reach the classifier.
        return "`kd_weight` and `ce_weight` are both 0, so nothing is learnt by the classifier"
    return None
