"""The stage graph: dependencies, execution order, and the teacher that a stage descends from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compress.recipe.stage import TEACHER, StageSection, kinds_that_make, stage_sections
from compress.recipe.yaml_tree import Node
from compress.utils.errors import Problem
from compress.utils.messages import describe, did_you_mean, join_words, one_line

if TYPE_CHECKING:
    from compress.recipe.schema import Recipe

# --- of a valid recipe --------------------------------------------------------------------------------------------


def ordered_stages(recipe: Recipe) -> list[StageSection]:
    """Return the stages in execution order: dependencies first, otherwise in file order."""
    ordered: list[StageSection] = []
    done: set[str] = set()
    waiting = list(recipe.stages)
    while waiting:
        ready = next((index for index, stage in enumerate(waiting) if done.issuperset(stage.parents())), None)
        if ready is None:
            raise ValueError("circular or missing dependencies: " + ", ".join(stage.id for stage in waiting))
        ordered.append(waiting.pop(ready))
        done.add(ordered[-1].id)
    return ordered


def teacher_of(recipe: Recipe, stage_id: str) -> StageSection | None:
    """Return the nearest teacher that the network of a stage descends from.

    A network that the run trains on labels teaches what is distilled from it, and no pruned copy of itself.
    None for a teacher, for an export of several variants, and for what starts from a control that learns from labels:
    that only compares itself with a variant which has a teacher.
    """
    stages = {stage.id: stage for stage in recipe.stages}
    stage: StageSection = stages[stage_id]
    while len(stage.parents()) == 1 and (start := stage.network_from()):
        learner, stage = stage, stages[start]
        if TEACHER in stage.makes and (stage.teaches_all or learner.starts_from == {TEACHER}):
            return stage
    return None


# --- of an unvalidated recipe -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _WrittenStage:
    """The readable parts of a stage, whatever else is wrong in it."""

    id: str
    kind: str
    section: type[StageSection] | None
    parents: tuple[Node, ...]
    place: str


def graph_problems(root: Node) -> Iterator[Problem]:
    """Yield the problems between stages, as far as each of them can be read."""
    stages = list(_written_stages(root))
    by_id: dict[str, _WrittenStage] = {}
    for stage in stages:
        if stage.id in by_id:
            first = by_id[stage.id].place
            yield Problem(stage.place, f"stages.{one_line(stage.id)}: duplicate id, first used at {first}; rename one")
        by_id.setdefault(stage.id, stage)
    for stage in stages:
        yield from _parent_problems(stage, by_id)
    yield from _cycles(by_id)
    yield from _references(root, by_id)


def _written_stages(root: Node) -> Iterator[_WrittenStage]:
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
        parents = tuple(node for node in nodes if isinstance(node.value, str))
        yield _WrittenStage(identifier.value, name, section, parents, identifier.place)


def _parent_problems(stage: _WrittenStage, by_id: dict[str, _WrittenStage]) -> Iterator[Problem]:
    where = f"stages.{one_line(stage.id)}.from"
    seen: set[str] = set()
    for node in stage.parents:
        name = str(node.value)
        if name in seen:
            yield Problem(node.place, f"{where}: {describe(name)} is listed twice; remove one")
        elif name not in by_id:
            yield Problem(node.place, f"{where}: {_unknown_stage(name, by_id)}")
        elif stage.section and (parent := by_id[name].section) and not parent.makes & stage.section.starts_from:
            allowed = join_words(kinds_that_make(stage.section.starts_from))
            message = f"{describe(name)} is of kind {by_id[name].kind}; {stage.kind} must start from {allowed}"
            yield Problem(node.place, f"{where}: {message}")
        seen.add(name)


def _unknown_stage(name: str, by_id: dict[str, _WrittenStage]) -> str:
    allowed = join_words(one_line(known) for known in list(by_id)[:50])
    return f"unknown stage {describe(name)}{did_you_mean(name, by_id) or ';'} allowed: {allowed}"


def _cycles(by_id: dict[str, _WrittenStage]) -> Iterator[Problem]:
    finished: set[str] = set()
    for first in by_id:
        # stages from `first` down to the one that is looked at, with the parents of each that are not yet
        chain = {first: iter(by_id[first].parents)} if first not in finished else {}
        while chain:
            last = next(reversed(chain))
            parent = next(chain[last], None)
            if parent is None:
                finished.add(last)
                del chain[last]
            elif (name := str(parent.value)) in chain:
                names = list(chain)
                yield _cycle(by_id, [*names[names.index(name) :], name])
            elif name in by_id and name not in finished:
                chain[name] = iter(by_id[name].parents)


def _cycle(by_id: dict[str, _WrittenStage], cycle: list[str]) -> Problem:
    """Describe a circle of stages, each made from the next; the last is the first."""
    path = " -> ".join(one_line(member) for member in (cycle if len(cycle) <= 10 else [*cycle[:9], "..."]))
    place = next(parent.place for parent in by_id[cycle[0]].parents if str(parent.value) == cycle[1])
    return Problem(place, f"stages.{one_line(cycle[0])}.from: circular dependency: {path}")


def _references(root: Node, by_id: dict[str, _WrittenStage]) -> Iterator[Problem]:
    worth = root.child("worth")
    references = worth.child("references") if worth else None
    for node in references.value if references and isinstance(references.value, list) else []:
        if not isinstance(node.value, str):
            continue
        variants = {name: stage for name, stage in by_id.items() if not stage.section or stage.section.makes}
        if node.value not in by_id:
            yield Problem(node.place, f"worth.references: {_unknown_stage(node.value, variants)}")
        elif node.value not in variants:
            yield Problem(node.place, f"worth.references: {describe(node.value)} is an export stage; name a variant")
