"""The content of a run's pages, before it is laid out as HTML or Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from compress.data.left_out import left_out_line
from compress.report import formats as f
from compress.report.classes import ChangesSection, changes_sections
from compress.report.corruptions import corruption_tables
from compress.report.deployments import deployment_tables
from compress.report.disagreements import DisagreementsSection, disagreements_section
from compress.report.embeddings import embedding_tables
from compress.report.headline import deployment_line, sentence
from compress.report.headline_chart import months_svg
from compress.report.hosts import host_tables
from compress.report.ledgers import ledgers
from compress.report.lineage import LineageNode, lineage
from compress.report.not_measured import not_measured
from compress.report.ood import ood_tables
from compress.report.plots import accuracy_cost_svg
from compress.report.pruning import pruning_tables
from compress.report.published import published_tables
from compress.report.quality import quality_tables
from compress.report.quantization import quantization_tables
from compress.report.remarks import reservations, warnings
from compress.report.reproduce import provenance
from compress.report.savings import SavingsSection, savings_section
from compress.report.tables import Table
from compress.report.targets import target_tables
from compress.report.variants import artifacts_table, latency_table, variants_table
from compress.results import RunRecord
from compress.results.run import DataSummary

Pairs = tuple[tuple[str, str], ...]  # (name, value) of a list of settings


@dataclass(frozen=True)
class FirstLines:
    """The result in one sentence and one chart, one line for whoever deploys, warnings, and what restricts it."""

    granted: bool
    sentence: str
    deploy: str | None
    warnings: tuple[str, ...]
    reservations: tuple[str, ...]
    reference: str | None
    chart: Callable[[], str | None]


@dataclass(frozen=True)
class Report:
    """Contents of the pages of a run. `details` are tables that not every run has; `missing` are sentences."""

    title: str
    run: str
    command: str
    sweep: str | None  # address of the page of its sweep, relative to its folder
    headline: FirstLines
    variants: Table
    artifacts: Table
    latency: Table
    savings: tuple[SavingsSection, ...]
    details: tuple[Table, ...]
    changes: tuple[ChangesSection, ...]
    disagreements: DisagreementsSection | None
    lineage: tuple[LineageNode, ...]
    missing: tuple[str, ...]
    provenance: dict[str, str]
    data: Pairs
    environment: Pairs
    settings: str


def build_report(record: RunRecord) -> Report:
    """Prepare what the pages of a run show."""
    import yaml

    first, resolved = record.headline, record.recipe.resolved
    return Report(
        title=f.plain(record.recipe.name or "run"),
        run=f.plain(record.run.id),
        command=f.plain(record.command),
        sweep=record.run.sweep,
        headline=first_lines(record),
        variants=variants_table(record),
        artifacts=artifacts_table(record),
        latency=latency_table(record),
        savings=tuple(savings_section(each, partial(accuracy_cost_svg, record, each)) for each in record.efficiency),
        details=(
            *quality_tables(record),
            *embedding_tables(record),
            *corruption_tables(record),
            *ood_tables(record),
            *target_tables(record),
            *published_tables(record),
            *host_tables(record),
            *deployment_tables(record.deployments),
            *pruning_tables(record),
            *quantization_tables(record),
            *ledgers(record),
        ),
        changes=changes_sections(record, first.reference, first.variant),
        disagreements=disagreements_section(record.disagreements) if record.disagreements else None,
        lineage=lineage(record),
        missing=tuple(not_measured(record)),
        provenance=provenance(record),
        data=_data(record.data),
        environment=tuple(_pairs(record.environment.model_dump())),
        settings=yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True, width=100) if resolved else "",
    )


def first_lines(record: RunRecord) -> FirstLines:
    """Prepare the lines above the tables."""
    return FirstLines(
        granted=record.headline.granted,
        sentence=sentence(record),
        deploy=deployment_line(record),
        warnings=tuple(warnings(record)),
        reservations=tuple(reservations(record)),
        reference=record.headline.reference,
        chart=partial(months_svg, record),
    )


def _data(data: DataSummary) -> Pairs:
    """List the figures of the data; what was left out is one line, and labels of single images are for programs."""
    left_out = left_out_line(data.left_out) or "nothing"
    return (*_pairs(data.model_dump(exclude={"left_out", "test_labels"})), ("left out", f.plain(left_out)))


def _pairs(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested settings; nested names are joined by spaces, and a list is one value."""
    for key, value in settings.items():
        name = f"{prefix}{f.plain(key)}"
        if isinstance(value, dict):
            yield from _pairs(value, f"{name} ")
        elif isinstance(value, list | tuple):
            yield name, f.names(value) or "none"
        else:
            yield name, "none" if value is None else f.plain(value)
