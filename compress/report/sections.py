"""The sections of `report.html` in their order: each a heading, a template of its own, and what it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compress.report.classes import ChangesSection
from compress.report.content import Pairs, Report
from compress.report.disagreements import DisagreementsView
from compress.report.lineage import LineageNode
from compress.report.savings import SavingsSection
from compress.report.tables import Table


@dataclass(frozen=True)
class Reproduction:
    """How to reproduce a run: its command, and what determines the results besides."""

    command: str
    provenance: Pairs


View = (
    Table
    | SavingsSection
    | tuple[ChangesSection, ...]
    | DisagreementsView
    | tuple[LineageNode, ...]
    | tuple[str, ...]
    | Reproduction
    | Pairs
    | str
)


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: Heading.
        template: Name of the template under `templates/html/`, without `.html.j2`.
        view: What the template shows.
    """

    title: str
    template: str
    view: View

    @property
    def key(self) -> str:
        """The heading as an id for links."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def sections(report: Report) -> list[Section]:
    """List all sections that a run has content for; the headline's reference comes first among the savings."""
    savings = sorted(report.savings, key=lambda section: section.reference != report.headline.reference)
    optional: tuple[tuple[str, str, View | None], ...] = (
        ("Confusion changes", "classes", report.changes),
        ("Images that teacher and student disagree on", "disagreements", report.disagreements),
        ("Lineage", "lineage", report.lineage),
    )
    return [
        Section(report.variants.title, "table", report.variants),
        *(Section(section.table.title, "savings", section) for section in savings),
        *(Section(table.title, "table", table) for table in (report.artifacts, report.latency, *report.details)),
        *(Section(title, template, view) for title, template, view in optional if view),
        Section("What was not measured", "missing", report.missing),
        Section("How to reproduce", "reproduce", Reproduction(report.command, tuple(report.provenance.items()))),
        Section("Data", "pairs", report.data),
        Section("Environment", "pairs", report.environment),
        Section("Settings", "settings", report.settings),
    ]
