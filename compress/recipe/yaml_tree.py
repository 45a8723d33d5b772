"""YAML as a tree of plain values in which every value knows its file and line.

The tree is built from the parser's events, so that depth and size are bounded while it grows: an alias is expanded
(each use is a value of its own, which an override may change), but never beyond the bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from compress.utils.errors import Problem, RecipeError
from compress.utils.messages import clean

MAX_BYTES = 2**20
MAX_NODES = 20_000
MAX_DEPTH = 32

# YAML 1.2's core words and decimal numbers. YAML 1.1, PyYAML's own, would read the class name `no` as false, `1e-3`
# as text and `12:30` as 750.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,39})")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,40}|[0-9]{1,40}(\.[0-9]{0,40})?)([eE][-+]?[0-9]{1,5})?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Node:
    """A value and where it is written: the line of its key, or of the value itself in a list."""

    value: str | int | float | bool | dict[str, Node] | list[Node] | None
    place: str

    def child(self, part: str | int) -> Node | None:
        """The value under a key or at an index, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(str(part))
        if isinstance(self.value, list) and isinstance(part, int) and 0 <= part < len(self.value):
            return self.value[part]
        return None

    def plain(self) -> Any:
        """The value without the places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def copy(self) -> Node:
        """A tree of its own."""
        if isinstance(self.value, dict):
            return Node({key: node.copy() for key, node in self.value.items()}, self.place)
        if isinstance(self.value, list):
            return Node([node.copy() for node in self.value], self.place)
        return Node(self.value, self.place)


def read_yaml(text: str, file: str, problems: list[Problem], place: str | None = None) -> Node:
    """Read one YAML document.

    Args:
        text: The document.
        file: Its name in messages.
        problems: Takes the mistakes that do not hinder reading on: keys that stand there twice.
        place: What to say instead of file and line, for a text that is no file.

    Raises:
        RecipeError: When the text is no YAML, or is beyond the bounds.
    """
    reader = _Reader(file, place, problems)
    try:
        if len(text.encode()) > MAX_BYTES:
            raise reader.stop(0, f"is larger than {MAX_BYTES // 2**20} MiB")
        return reader.document(yaml.parse(text, Loader=_Loader))
    except UnicodeEncodeError:
        raise reader.stop(0, "holds characters that are not UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(reader, error, text) from None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", None) or 0)
        raise reader.stop(line, f"is not valid YAML: {getattr(error, 'reason', 'unreadable character')}") from None


def _syntax(reader: _Reader, error: yaml.MarkedYAMLError, text: str) -> RecipeError:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    lines = text.split("\n")
    if mark and line < len(lines) and lines[line][mark.column : mark.column + 1] == "\t":
        return reader.stop(line, "a tab cannot indent YAML; use spaces")
    return reader.stop(line, f"is not valid YAML: {error.problem or error.context}")


class _Reader:
    def __init__(self, file: str, place: str | None, problems: list[Problem]) -> None:
        self.file, self.fixed_place, self.problems = file, place, problems
        self.nodes = 0
        self.anchors: dict[str, Node | None] = {}  # None while the value is being read

    def line(self, event: yaml.Event) -> int:
        return event.start_mark.line if event.start_mark else 0

    def place(self, line: int) -> str:
        return self.fixed_place or f"{self.file}:{line + 1}"

    def stop(self, line: int, message: str) -> RecipeError:
        return RecipeError([Problem(self.place(line), message)])

    def document(self, events: Iterator[yaml.Event]) -> Node:
        root = Node(None, self.place(0))
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self.stop(self.line(event), "a second document starts here; one is allowed")
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
            raise self.stop(line, f"the tag {clean(event.tag)} is not read: a recipe is plain data")
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
            raise self.stop(line, f"holds more than {MAX_NODES} values, with aliases written out")
        if depth > MAX_DEPTH:
            raise self.stop(line, f"is nested deeper than {MAX_DEPTH} levels")

    def mapping(self, events: Iterator[yaml.Event], depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            line = self.line(event)
            if not isinstance(event, yaml.ScalarEvent) or event.tag is not None:
                raise self.stop(line, "a key must be plain text")
            if event.value == "<<" and event.implicit[0]:
                raise self.stop(line, "merge keys (<<) are not read; write the keys out")
            self.count(line, depth)
            if event.anchor:
                self.anchors[event.anchor] = Node(event.value, self.place(line))
            child = self.node(_content(next(events)), events, depth + 1)
            child.place = self.place(line)
            if event.value in entries:
                first = entries[event.value].place
                self.problems.append(
                    Problem(self.place(line), f"the key '{clean(event.value)}' is there already ({first})")
                )
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
            raise self.stop(line, f"the alias *{clean(name)} has no anchor before it")
        target = self.anchors[name]
        if target is None:
            raise self.stop(line, f"the alias *{clean(name)} stands inside of what it names")
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
    """What unquoted text stands for."""
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
