"""Several teachers of one student: `from: [a, b]` of a `distill` stage becomes a teacher stage of its own."""

from __future__ import annotations

from collections.abc import Mapping

from compress.recipe.yaml_tree import Node
from compress.utils.errors import Problem
from compress.utils.messages import describe, did_you_mean, join_words, one_line

MAX_ID = 64  # characters of a stage's id


def expand_ensembles(root: Node, problems: list[Problem]) -> None:
    """Write out the ensembles that stages of a composed recipe name, in place.

    A list in `from` of a `distill` stage becomes a `teacher` stage `a-and-b` behind all others, one for all stages with
    this list; ids of teacher stages among the members of an ensemble become their sections.
    """
    stages = root.child("stages")
    if not stages or not isinstance(stages.value, list):
        return
    teachers = {_text(stage, "id"): stage for stage in stages.value if _teaches(stage)}
    made: dict[tuple[str, ...], str] = {}
    for stage in list(stages.value):
        start = stage.child("from")
        if _text(stage, "kind") == "distill" and start and isinstance(start.value, list) and len(start.value) > 1:
            names = tuple(str(node.value) for node in start.value)
            if names not in made:
                made[names] = _free_id("-and-".join(names), stages.value)
                stages.value.append(_ensemble(made[names], start))
            assert isinstance(stage.value, dict)
            stage.value["from"] = Node(made[names], start.place)
    for stage in stages.value:
        teacher = stage.child("teacher") if _text(stage, "kind") == "teacher" else None
        if teacher and _text(teacher, "source") == "ensemble":
            _fill_members(teacher, teachers, problems)


def _teaches(stage: Node) -> bool:
    """Return whether a stage is a readable teacher with a section that can be copied."""
    teacher = stage.child("teacher")
    single = teacher is not None and isinstance(teacher.value, dict) and _text(teacher, "source") != "ensemble"
    return single and _text(stage, "kind") == "teacher" and _text(stage, "id") != ""


def _text(node: Node, key: str) -> str:
    child = node.child(key)
    return str(child.value) if child else ""


def _free_id(name: str, stages: list[Node]) -> str:
    used = {_text(stage, "id") for stage in stages}
    short = name[:MAX_ID]
    number = 2
    while short in used:
        short, number = f"{name[: MAX_ID - 4]}-{number}", number + 1
    return short


def _ensemble(name: str, start: Node) -> Node:
    """Return the teacher stage of a list of ids, at the place of the list."""

    def at(value: str | dict[str, Node]) -> Node:
        return Node(value, start.place)

    section = {"source": at("ensemble"), "members": start.copy()}
    return at({"id": at(name), "kind": at("teacher"), "teacher": at(section)})


def _fill_members(teacher: Node, teachers: Mapping[str, Node], problems: list[Problem]) -> None:
    members = teacher.child("members")
    if not members or not isinstance(members.value, list):
        return
    seen: set[str] = set()
    for number, member in enumerate(members.value):
        if not isinstance(member.value, str):
            continue
        name, found = member.value, teachers.get(member.value)
        if name in seen:
            problems.append(Problem(member.place, f"teachers: {describe(name)} is listed twice; remove one"))
        if found is None:
            allowed = join_words(map(one_line, list(teachers)[:50])) or "none"
            hint = did_you_mean(name, teachers) or ";"
            problems.append(
                Problem(member.place, f"teachers: {describe(name)} is not a `teacher` stage{hint} allowed: {allowed}")
            )
        copied = (found or next(iter(teachers.values()), member)).child("teacher")
        if copied:  # also in place of an unknown one, so that it is reported once
            members.value[number] = Node(copied.copy().value, member.place)
        seen.add(name)
