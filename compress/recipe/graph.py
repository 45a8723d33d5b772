"""The graph of stages: what starts from what, in which order they run, and which teacher a stage descends from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.recipe.stage import TEACHER, StageSection, kinds_that_make, stage_sections
from compress.recipe.yaml_tree import Node
from compress.utils.errors import Problem
from compress.utils.messages import clean, did_you_mean, found, listed

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe

# --- of a recipe that is right ------------------------------------------------------------------------------------


def ordered_stages(recipe: Recipe) -> list[StageSection]:
    """The stages so that each comes after what it starts from, and otherwise as the file has them."""
    ordered: list[StageSection] = []
    done: set[str] = set()
    waiting = list(recipe.stages)
    while waiting:
        ready = next((place for place, stage in enumerate(waiting) if done.issuperset(stage.parents())), None)
        if ready is None:
            raise ValueError("a stage starts from itself or from none: " + ", ".join(stage.id for stage in waiting))
        ordered.append(waiting.pop(ready))
        done.add(ordered[-1].id)
    return ordered


def teacher_of(recipe: Recipe, stage_id: str) -> StageSection | None:
    """The nearest teacher stage that a stage descends from; none for a teacher itself and for an export of several.

    Raises:
        KeyError: When there is no such stage.
    """
    stages = {stage.id: stage for stage in recipe.stages}
    stage: StageSection = stages[stage_id]
    while len(parents := stage.parents()) == 1:
        stage = stages[parents[0]]
        if TEACHER in stage.makes:
            return stage
    return None


# --- of a recipe as it was written --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Seen:
    """What can be read of a stage, whatever else is wrong in it."""

    id: str
    kind: str
    section: type[StageSection] | None
    starts: tuple[Node, ...]
    place: str


def graph_problems(root: Node) -> Iterator[Problem]:
    """What is wrong between stages, as far as each of them can be read."""
    stages = list(_seen(root))
    by_id: dict[str, _Seen] = {}
    for stage in stages:
        if stage.id in by_id:
            yield Problem(stage.place, f"stages.{clean(stage.id)}: this id is there already ({by_id[stage.id].place})")
        by_id.setdefault(stage.id, stage)
    for stage in stages:
        yield from _starts(stage, by_id)
    yield from _cycles(by_id)
    yield from _references(root, by_id)


def _seen(root: Node) -> Iterator[_Seen]:
    stages, sections = root.child("stages"), stage_sections()
    for stage in stages.value if stages and isinstance(stages.value, list) else []:
        identifier, kind, start = stage.child("id"), stage.child("kind"), stage.child("from")
        if not identifier or not isinstance(identifier.value, str) or not identifier.value:
            continue
        name = str(kind.value) if kind else ""
        section = sections.get(name)
        nodes: list[Node] = []
        if start and section and section.starts_from_many and isinstance(start.value, list):
            nodes = start.value
        elif start and section and section.starts_from and not section.starts_from_many:
            nodes = [start]
        starts = tuple(node for node in nodes if isinstance(node.value, str))
        yield _Seen(identifier.value, name, section, starts, identifier.place)


def _starts(stage: _Seen, by_id: dict[str, _Seen]) -> Iterator[Problem]:
    where = f"stages.{clean(stage.id)}.from"
    used: set[str] = set()
    for node in stage.starts:
        name = str(node.value)
        if name in used:
            yield Problem(node.place, f"{where}: {found(name)} is there twice")
        elif name not in by_id:
            yield Problem(node.place, f"{where}: {_no_stage(name, by_id)}")
        elif stage.section and (parent := by_id[name].section) and not parent.makes & stage.section.starts_from:
            allowed = listed(kinds_that_make(stage.section.starts_from))
            message = f"{found(name)} is a stage of kind {by_id[name].kind}; {stage.kind} starts from {allowed}"
            yield Problem(node.place, f"{where}: {message}")
        used.add(name)


def _no_stage(name: str, by_id: dict[str, _Seen]) -> str:
    there = listed(clean(known) for known in list(by_id)[:50])
    return f"there is no stage {found(name)}{did_you_mean(name, by_id) or ';'} there are: {there}"


def _cycles(by_id: dict[str, _Seen]) -> Iterator[Problem]:
    finished: set[str] = set()
    for first in by_id:
        chain: dict[str, None] = {}
        name = first
        while name in by_id and name not in finished and name not in chain:
            chain[name] = None
            starts = by_id[name].starts
            name = str(starts[0].value) if len(starts) == 1 else ""
        if name in chain:
            names = list(chain)
            cycle = [*names[names.index(name) :], name]
            shown = " -> ".join(clean(member) for member in (cycle if len(cycle) <= 10 else [*cycle[:9], "..."]))
            place = by_id[name].starts[0].place
            yield Problem(place, f"stages.{clean(name)}.from: these stages start from one another: {shown}")
        finished.update(chain)


def _references(root: Node, by_id: dict[str, _Seen]) -> Iterator[Problem]:
    worth = root.child("worth")
    references = worth.child("references") if worth else None
    for node in references.value if references and isinstance(references.value, list) else []:
        if not isinstance(node.value, str):
            continue
        variants = {name: stage for name, stage in by_id.items() if not stage.section or stage.section.makes}
        if node.value not in by_id:
            yield Problem(node.place, f"worth.references: {_no_stage(node.value, variants)}")
        elif node.value not in variants:
            yield Problem(node.place, f"worth.references: {found(node.value)} is an export, which makes no variant")
