"""The sections of `report.html` in their order."""

from __future__ import annotations

import re
from dataclasses import dataclass

from compress.report.content import Report


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    title: str  # heading
    template: str  # name of its template under `templates/html/`, without `.html.j2`
    view: object  # what the template shows

    @property
    def key(self) -> str:
        """The heading as an id for links."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


def sections(report: Report) -> list[Section]:
    """List all sections that a run has content for; the headline's reference comes first among the savings."""
    savings = sorted(report.savings, key=lambda section: section.reference != report.headline.reference)
    optional = (
        Section("Confusion changes", "classes", report.changes),
        Section("Images that teacher and student disagree on", "disagreements", report.disagreements),
        Section("Lineage", "lineage", report.lineage),
    )
    return [
        Section(report.variants.title, "table", report.variants),
        *(Section(section.table.title, "savings", section) for section in savings),
        *(Section(table.title, "table", table) for table in (report.artifacts, report.latency, *report.details)),
        *(section for section in optional if section.view),
        Section("What was not measured", "missing", report.missing),
        Section("How to reproduce", "reproduce", report),
        Section("Data", "pairs", report.data),
        Section("Environment", "pairs", report.environment),
        Section("Settings", "settings", report.settings),
    ]
