"""YAML as a tree of plain values, each with its file and line.

The tree is built from parser events, so that its depth and size are limited while it grows. Aliases are expanded within
the same limits: each use is a copy, which an override may change on its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import one_line

MAX_BYTES = 2**20
MAX_NODES = 20_000
MAX_DEPTH = 32

KeyPath = tuple[str | int, ...]  # keys and indices from the root of a document to a value

# Core schema of YAML 1.2, decimal numbers only. PyYAML follows YAML 1.1, which reads the class name `no` as false,
# `1e-3` as a string and `12:30` as 750.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,5})?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Node:
    """A value and its place: the line of its key or, in a list, of the value itself."""

    value: str | int | float | bool | dict[str, Node] | list[Node] | None
    place: str

    def child(self, part: str | int) -> Node | None:
        """Return the value under a key or at an index, if any."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def copy(self) -> Node:
        """Return a deep copy."""
        if isinstance(self.value, dict):
            return Node({key: node.copy() for key, node in self.value.items()}, self.place)
        if isinstance(self.value, list):
            return Node([node.copy() for node in self.value], self.place)
        return Node(self.value, self.place)


def read_yaml(text: str, file: str, problems: list[Problem], place: str | None = None) -> Node:
    """Parse one YAML document.

    Args:
        problems: Receives the problems that do not stop parsing: duplicate keys.
        place: Place in messages instead of file and line, for a text that is not from a file.

    Raises:
        RecipeError: the text is not valid YAML, or exceeds the limits.
    """
    reader = _Reader(file, place, problems)
    try:
        if len(text.encode()) > MAX_BYTES:
            raise reader.error(0, f"larger than {MAX_BYTES // 2**20} MiB, the limit of a recipe")
        return reader.document(yaml.parse(text, Loader=_Loader))
    except UnicodeEncodeError:
        raise reader.error(0, "is not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(reader, error, text) from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", None) or 0)
        raise reader.error(line, f"is not valid YAML: {getattr(error, 'reason', 'unreadable character')}") from None


def _syntax(reader: _Reader, error: yaml.MarkedYAMLError, text: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.split("\n")
    if mark and line < len(lines) and lines[line][mark.column : mark.column + 1] == "\t":
        return reader.error(line, "tab used for indentation; use spaces")
    return reader.error(line, f"is not valid YAML: {error.problem or error.context}")


class _Reader:
    def __init__(self, file: str, place: str | None, problems: list[Problem]) -> None:
        self.file, self.fixed_place, self.problems = file, place, problems
        self.nodes = 0
        self.anchors: dict[str, Node | None] = {}  # None while the value is being read

    def line(self, event: yaml.Event) -> int:
        return event.start_mark.line if event.start_mark else 0

    def place(self, line: int) -> str:
        return self.fixed_place or f"{self.file}:{line + 1}"

    def error(self, line: int, message: str) -> RecipeError:
        return RecipeError([Problem(self.place(line), message)])

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root = Node(None, self.place(0))
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.error(self.line(event), "second YAML document; only one is allowed")
            elif isinstance(event, yaml.NodeEvent):
                root = self.node(event, events, 1)
                root.place = self.place(0)
        return root

    def node(self, event: yaml.NodeEvent, events: Iterator[yaml.Event], depth: int) -> Node:
        line = self.line(event)
        self.count(line, depth)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event, line, depth)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None:
            raise self.error(line, f"YAML tag {one_line(event.tag)} is not allowed; use a plain value")
        if event.anchor:
            self.anchors[event.anchor] = None
        node = Node(None, self.place(line))
        if isinstance(event, yaml.ScalarEvent):
            node.value = scalar(event.value) if event.implicit[0] else event.value
        elif isinstance(event, yaml.MappingStartEvent):
            node.value = self.mapping(events, depth)
        else:
            node.value = self.sequence(events, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def count(self, line: int, depth: int) -> None:
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise self.error(line, f"more than {MAX_NODES} values after alias expansion")
        if depth > MAX_DEPTH:
            raise self.error(line, f"nested deeper than {MAX_DEPTH} levels")

    def mapping(self, events: Iterator[yaml.Event], depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = self.line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self.error(line, "a key must be a plain string")
            if event.value == "<<" and event.implicit[0]:
                raise self.error(line, "merge keys (<<) are not supported; write the keys out")
            self.count(line, depth)
            if event.anchor:
                self.anchors[event.anchor] = Node(event.value, self.place(line))
            child = self.node(_content(next(events)), events, depth + 1)
            child.place = self.place(line)
            if event.value in entries:
                first = entries[event.value].place
                message = f"duplicate key '{one_line(event.value)}', first used at {first}; remove one"
                self.problems.append(Problem(self.place(line), message))
            else:
                entries[event.value] = child
        return entries

    def sequence(self, events: Iterator[yaml.Event], depth: int) -> list[Node]:
        items: list[Node] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            item = self.node(_content(event), events, depth + 1)
            item.place = self.place(self.line(event))
            items.append(item)
        return items

    def alias(self, event: yaml.AliasEvent, line: int, depth: int) -> Node:
        name = event.anchor or ""
        if name not in self.anchors:
            raise self.error(line, f"undefined alias *{one_line(name)}; define its anchor first")
        target = self.anchors[name]
        if target is None:
            raise self.error(line, f"alias *{one_line(name)} refers to a value that contains it")
        self.count_copy(target, line, depth)
        return target.copy()

    def count_copy(self, node: Node, line: int, depth: int) -> None:
        children: list[Node] = []
        if isinstance(node.value, dict):
            children = list(node.value.values())
        elif isinstance(node.value, list):
            children = node.value
        for child in children:
            self.count(line, depth + 1)
            self.count_copy(child, line, depth + 1)


def _content(event: yaml.Event) -> yaml.NodeEvent:
    assert isinstance(event, yaml.NodeEvent)
    return event


def scalar(text: str) -> str | int | float | bool | None:
    """Return the value of an unquoted scalar."""
    if text in _NULL:
        return None
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _NOT_FINITE.fullmatch(text):
        return math.nan if special[2].lower() == "nan" else float(f"{special[1]}inf")
    return text
