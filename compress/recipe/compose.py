"""Composition: replace the names in a recipe by the sections of the shipped configs they refer to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from compress.recipe.stage import stage_sections
from compress.recipe.weights import without_void
from compress.recipe.yaml_tree import KeyPath, Node, read_yaml
from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import describe, did_you_mean, join_words, one_line
from compress.utils.resources import DEFAULT_TREND, config_names, shipped

LIBRARIES = ("timm", "torchvision")
LABELS = {"data": "data set", "views": "policy of views"}
"""What messages call the configs of folders that are not named in the plural of what they hold."""


class Composer:
    """Replaces config names by sections; may be called again after a change, since replaced names stay replaced."""

    def __init__(self) -> None:
        self.problems: dict[KeyPath, Problem] = {}
        self._configs: dict[tuple[str, str], Node | RecipeError] = {}
        self._listed: dict[str, list[str]] = {}

    def compose(self, root: Node) -> None:
        """Replace the names in a recipe in place; `problems`, by path, holds those of this call only."""
        self.problems = {}
        for holder, key, path in _named_sections(root):
            folder = path[1] if isinstance(key, int) else key if key in LABELS else f"{key}s"
            container: Any = holder.value  # a dict, or a list indexed by the key
            container[key] = self._resolved(container[key], str(folder), path)

    def _names(self, folder: str) -> list[str]:
        """Names of the configs in a folder; none of a key of a plugin, for which there is no folder."""
        if folder not in self._listed:
            self._listed[folder] = config_names(folder)
        return self._listed[folder]

    def _resolved(self, node: Node, folder: str, path: KeyPath) -> Node:
        if isinstance(node.value, str):
            if folder == "students" and node.value not in self._names(folder):
                return self._model(node, path)
            return self._config(node, folder, path) or node
        if isinstance(node.value, dict) and "use" in node.value:
            base = self._config(node.value["use"], folder, path)
            if base is None:
                return node
            overlay = {key: value for key, value in node.value.items() if key != "use"}
            if isinstance(base.value, dict):
                base = Node(without_void(base.value, overlay), base.place)
            return _merged(base, Node(overlay, node.place))
        return node

    def _model(self, node: Node, path: KeyPath) -> Node:
        library, slash, model = str(node.value).partition("/")
        if not slash:
            return Node({"model": node}, node.place)
        if library in LIBRARIES:
            return Node({"library": Node(library, node.place), "model": Node(model, node.place)}, node.place)
        self._unknown(path, node, "library", library, LIBRARIES)
        return node

    def _config(self, name: Node, folder: str, path: KeyPath) -> Node | None:
        names = self._names(folder)
        if not names:
            self._problem(path, name, "must be a section; it has no shipped configs to name")
        elif not isinstance(name.value, str):
            self._problem(path, name, f"`use` must be a name, not {describe(name.value)}; allowed: {join_words(names)}")
        elif name.value not in names:
            self._unknown(path, name, LABELS.get(folder, folder[:-1]), name.value, names)
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

    def _unknown(self, path: KeyPath, node: Node, kind: str, name: str, allowed: Sequence[str]) -> None:
        hint = did_you_mean(name, allowed)
        own = _own_images(name) if kind == LABELS["data"] and (not hint or _is_there(name, Path.exists)) else ""
        self._problem(path, node, f"unknown {kind} {describe(name)}{hint or ';'} allowed: {join_words(allowed)}{own}")

    def _problem(self, path: KeyPath, node: Node, message: str) -> None:
        self.problems[path] = Problem(node.place, message)


def _is_there(text: str, look: Callable[[Path], bool]) -> bool:
    try:
        return look(Path(text))
    except (OSError, ValueError):  # no rights, or a name that no file can have
        return False


def _own_images(path: str) -> str:
    """Say how a recipe names images of the user's own, where a path stands for a data set."""
    path = one_line(path)
    section = f"write `{{source: image-folder, path: {path}}}`, or " if not _is_there(path, Path.is_file) else ""
    return f"; for your own images {section}run `compress-model init {path}`"


def _named_sections(root: Node) -> Iterator[tuple[Node, str | int, KeyPath]]:
    """Yield the sections that may be given by name, as (container, key, path)."""
    if root.child("data"):
        yield root, "data", ("data",)
    data = root.child("data")
    if data and data.child("views"):
        yield data, "views", ("data", "views")
    stages, sections = root.child("stages"), stage_sections()
    for index, stage in enumerate(stages.value if stages and isinstance(stages.value, list) else []):
        kind = stage.child("kind")
        section = sections.get(str(kind.value)) if kind else None
        for key in section.named_sections if section else ("teacher", "student"):
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
    file = display_path(path)
    problems: list[Problem] = []
    try:
        node = read_yaml(path.read_text(encoding="utf-8"), file, problems)
    except RecipeError as error:
        return error
    except (OSError, UnicodeDecodeError) as error:
        return RecipeError([Problem(f"{file}:1", f"cannot be read: {error}")])
    if not isinstance(node.value, dict):
        problems.append(Problem(f"{file}:1", f"must be a section, not {describe(node.value)}"))
    return RecipeError(problems) if problems else node


def _merged(base: Node, overlay: Node) -> Node:
    """Merge two sections recursively; keys of `overlay` win."""
    if not isinstance(base.value, dict) or not isinstance(overlay.value, dict):
        return overlay
    merged = dict(base.value)
    for key, node in overlay.value.items():
        named = key in LABELS and node.child("use")  # a policy replaces all of the views of a data set
        merged[key] = _merged(merged[key], node) if key in merged and not named else node
    return Node(merged, overlay.place)


def fill_defaults(root: Node, name: str) -> None:
    """Set the keys whose defaults depend on the recipe: its name, the references of savings, and the trend."""
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
    sections = stage_sections()
    for stage in stages:
        kind, name = stage.child("kind"), stage.child("id")
        section = sections.get(str(kind.value)) if kind else None
        if name and isinstance(name.value, str) and (section is None or section.makes):
            return [Node(name.value, place)]
    return []


def display_path(path: Path) -> str:
    """Format a path for messages: relative to the working folder where it is below it, else absolute."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
