"""The sections of `report.html` in their order: each a heading, a template of its own, and what that shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compress.report import formats as f
from compress.report.classes import chosen_changes, classes_svg, classes_table, moves_table
from compress.report.disagreements import disagreements
from compress.report.latency_chart import latency_svg
from compress.report.lineage import lineage
from compress.report.plots import accuracy_cost_svg
from compress.report.reproduce import sources
from compress.report.tables import Table

Context = Mapping[str, Any]
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Heading.
        template: Name of the template under `templates/html/`, without `.html.j2`.
        data: What the template shows, by name.
    """

    title: str
    template: str
    data: Mapping[str, Any]

    @property
    def key(self) -> str:
        """The heading as an id that a link can name."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def sections(results: Results, context: Context) -> list[Section]:
    """All sections that a run has something for.

    Args:
        results: A `results.json`.
        context: What the Markdown page is made from, too.
    """
    return [section for make in _ORDER for section in make(results, context)]


def _table(table: Table, chart: str | None = None, caption: str = "") -> Section:
    return Section(table.title, "table", {"table": table, "chart": chart, "caption": caption})


def _variants(results: Results, context: Context) -> Iterator[Section]:
    yield _table(context["variants"])


def _worths(results: Results, context: Context) -> Iterator[Section]:
    """The reference of the answer comes first."""
    entries: Sequence[Mapping[str, Any]] = results.get("efficiency") or []
    leading = context["answer"].reference
    for number in sorted(range(len(entries)), key=lambda k: entries[k].get("reference") != leading):
        table, reasons = context["worths"][number], context["reasons"][number]
        chart = accuracy_cost_svg(results, entries[number])
        yield Section(table.title, "worth", {"table": table, "reasons": reasons, "chart": chart})


def _artifacts(results: Results, context: Context) -> Iterator[Section]:
    yield _table(context["artifacts"])


def _latency(results: Results, context: Context) -> Iterator[Section]:
    yield _table(context["latency"], latency_svg(results))


def _parts(results: Results, context: Context) -> Iterator[Section]:
    yield from (_table(table, chart) for table, chart in context["parts"])


def _classes(results: Results, context: Context) -> Iterator[Section]:
    answer = context["answer"]
    changes = chosen_changes(results, answer.reference, answer.variant)
    shown = [(classes_svg(entry), classes_table(entry), moves_table(entry)) for entry in changes]
    if shown:
        yield Section("Confusion changes", "classes", {"changes": shown})


def _disagreements(results: Results, context: Context) -> Iterator[Section]:
    if found := disagreements(results):
        yield Section("Images that teacher and student disagree on", "disagreements", {"found": found})


def _lineage(results: Results, context: Context) -> Iterator[Section]:
    if roots := lineage(results):
        yield Section("Lineage", "lineage", {"roots": roots})


def _missing(results: Results, context: Context) -> Iterator[Section]:
    yield Section("What was not measured", "missing", {"lines": context["missing"]})


def _reproduce(results: Results, context: Context) -> Iterator[Section]:
    command = f.plain(context["command"]) if context["command"] else None
    yield Section("How to reproduce", "reproduce", {"command": command, "sources": sources(results)})


def _about(results: Results, context: Context) -> Iterator[Section]:
    yield Section("Data", "pairs", {"rows": context["data"]})
    yield Section("Environment", "pairs", {"rows": context["environment"]})
    yield Section("Settings", "settings", {"settings": context["settings"]})


_ORDER: tuple[Callable[[Results, Context], Iterator[Section]], ...] = (
    _variants,
    _worths,
    _artifacts,
    _latency,
    _parts,
    _classes,
    _disagreements,
    _lineage,
    _missing,
    _reproduce,
    _about,
)
