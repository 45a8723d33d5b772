"""Composition: where a recipe gives a name for a section, the shipped config of that name stands in its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compress.recipe.worth import DEFAULT_TREND
from compress.recipe.yaml_tree import Node, read_yaml
from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import did_you_mean, found, listed
from compress.utils.resources import config_names, shipped

LIBRARIES = ("timm", "torchvision")
Path_ = tuple[str | int, ...]


class Composer:
    """Replaces names by sections. What it has replaced already stays, so it may be called again after a change."""

    def __init__(self) -> None:
        self.problems: dict[Path_, Problem] = {}
        self._configs: dict[tuple[str, str], Node | RecipeError] = {}
        self._names = {
            folder: config_names(folder) for folder in ("data", "teachers", "students", "trends", "deployments")
        }

    def compose(self, root: Node) -> None:
        """Replace the names in a recipe; `problems`, by path, is of this call only."""
        self.problems = {}
        for holder, key, path in _places_of_names(root):
            folder = path[1] if isinstance(key, int) else "data" if key == "data" else f"{key}s"
            inside: Any = holder.value  # a dict, or a list that the key counts in
            inside[key] = self._resolved(inside[key], str(folder), path)

    def _resolved(self, node: Node, folder: str, path: Path_) -> Node:
        if isinstance(node.value, str):
            if folder == "students" and node.value not in self._names[folder]:
                return self._model(node, path)
            return self._config(node, folder, path) or node
        if isinstance(node.value, dict) and "use" in node.value:
            base = self._config(node.value["use"], folder, path)
            if base is None:
                return node
            on_top = {key: value for key, value in node.value.items() if key != "use"}
            return _overlaid(base, Node(on_top, node.place))
        return node

    def _model(self, node: Node, path: Path_) -> Node:
        library, slash, model = str(node.value).partition("/")
        if not slash:
            return Node({"model": node}, node.place)
        if library in LIBRARIES:
            return Node({"library": Node(library, node.place), "model": Node(model, node.place)}, node.place)
        hint = did_you_mean(library, LIBRARIES)
        self._problem(path, node, f"{found(library)} is no library{hint or ';'} allowed: {listed(LIBRARIES)}")
        return node

    def _config(self, name: Node, folder: str, path: Path_) -> Node | None:
        names = self._names[folder]
        if not isinstance(name.value, str):
            self._problem(path, name, f"`use` takes a name, not {found(name.value)}; there are: {listed(names)}")
        elif name.value not in names:
            one = "data" if folder == "data" else folder[:-1]
            hint = did_you_mean(name.value, names)
            self._problem(path, name, f"there is no {one} {found(name.value)}{hint or ';'} there are: {listed(names)}")
        else:
            config = self._read(folder, name.value)
            if isinstance(config, Node):
                return config.copy()
            for problem in config.problems:
                self.problems[path] = problem
        return None

    def _read(self, folder: str, name: str) -> Node | RecipeError:
        if (folder, name) not in self._configs:
            self._configs[folder, name] = _read_config(shipped("configs") / folder / f"{name}.yaml")
        return self._configs[folder, name]

    def _problem(self, path: Path_, node: Node, message: str) -> None:
        self.problems[path] = Problem(node.place, message)


def _places_of_names(root: Node) -> Iterator[tuple[Node, str | int, Path_]]:
    """The sections that may be given by name: (what holds it, its key, its path)."""
    if root.child("data"):
        yield root, "data", ("data",)
    stages = root.child("stages")
    for index, stage in enumerate(stages.value if stages and isinstance(stages.value, list) else []):
        kind = stage.child("kind")
        for key in ("teacher", "student"):
            if key == "teacher" and kind and kind.value == "distill":
                continue  # there it says how the teacher is asked, not which one it is
            if stage.child(key):
                yield stage, key, ("stages", index, key)
    worth = root.child("worth")
    for key in ("trend", "deployment"):
        if worth and worth.child(key):
            yield worth, key, ("worth", key)
    profiles = worth.child("deployments") if worth else None
    if profiles and isinstance(profiles.value, list):
        for index in range(len(profiles.value)):
            yield profiles, index, ("worth", "deployments", index)


def _read_config(path: Path) -> Node | RecipeError:
    file = shown(path)
    problems: list[Problem] = []
    try:
        node = read_yaml(path.read_text(encoding="utf-8"), file, problems)
    except RecipeError as error:
        return error
    except (OSError, UnicodeDecodeError) as error:
        return RecipeError([Problem(f"{file}:1", f"cannot be read: {error}")])
    if not isinstance(node.value, dict):
        problems.append(Problem(f"{file}:1", f"must be a section, not {found(node.value)}"))
    return RecipeError(problems) if problems else node


def _overlaid(base: Node, top: Node) -> Node:
    """The base with the keys of `top` on it; sections in both are joined the same way."""
    if not isinstance(base.value, dict) or not isinstance(top.value, dict):
        return top
    joined = dict(base.value)
    for key, node in top.value.items():
        joined[key] = _overlaid(joined[key], node) if key in joined else node
    return Node(joined, top.place)


def fill_in(root: Node, name: str) -> None:
    """Write out what a recipe may leave to us: its name, what savings are counted against, and the trend."""
    if not isinstance(root.value, dict):
        return
    root.value.setdefault("name", Node(name, root.place))
    worth = root.value.setdefault("worth", Node({}, root.place))
    if not isinstance(worth.value, dict):
        return
    worth.value.setdefault("trend", Node(DEFAULT_TREND, worth.place))
    references = worth.value.setdefault("references", Node([], worth.place))
    stages = root.child("stages")
    if references.value == [] and stages and isinstance(stages.value, list):
        references.value = _first_variant(stages.value, worth.place)


def _first_variant(stages: list[Node], place: str) -> list[Node]:
    for stage in stages:
        kind, name = stage.child("kind"), stage.child("id")
        if name and isinstance(name.value, str) and not (kind and kind.value == "export"):
            return [Node(name.value, place)]
    return []


def shown(path: Path) -> str:
    """A path as messages give it: from the working folder where it is below, else whole."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
