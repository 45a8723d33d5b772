"""The page of results: settings, rows and tables. `make_results` writes it, `_results_charts` draws its pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean
from typing import ClassVar

import yaml
from pydantic import BaseModel, ConfigDict

from compress.efficiency import doublings
from compress.efficiency.headline import is_saving
from compress.report import formats as f
from compress.report.page import markdown
from compress.report.tables import Column, Table, make_table
from compress.results import Artifact, LatencyRow, RunRecord, Variant
from compress.results.base import Count, Fraction, Interval
from compress.results.read import read_run
from compress.utils.errors import UsageError


class Settings(BaseModel):
    """A part of a YAML file in recipes/results; a key that it does not have is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(Settings):
    """What results.json does not say about a run."""

    commit: str | None = None
    machine: str | None = None  # beside the processor's name


class Point(Settings):
    """A published network, or a quality target that others set."""

    name: str
    top1: Fraction
    macs: Count  # per image
    images: Count = 10_000  # test images, for the interval
    target: bool = False
    label: str = ""  # in the picture; none, where it is empty
    family: str = ""  # networks of one family are joined by a line
    source: str


class PublishedTraining(Settings):
    """The training compute that others took to an accuracy."""

    name: str
    top1: Fraction
    flop: float  # floating point operations, 2 per MAC
    source: str


class Published(Settings):
    """published.yml."""

    points: tuple[Point, ...]
    training: tuple[PublishedTraining, ...]


class Group(Settings):
    """Runs of one recipe that differ in their seeds."""

    runs: tuple[str, ...]
    variants: tuple[str, ...] = ()  # all, where none is named
    picture: dict[str, str] = {}  # variants of the picture, with their labels


class Section(Settings):
    """A table. `key` names it in the README's markers."""

    key: str
    title: str
    note: str = ""
    batch: Count = 1  # of the latency
    runtimes: tuple[str, ...] = ()  # one row for each; the fastest alone, where none is named
    reference: str | None = None  # variant that the others are held against
    groups: tuple[Group, ...]


class Reached(Settings):
    """A variant whose training compute is held against published ones."""

    runs: tuple[str, ...]
    variant: str
    target: Fraction  # top-1 that its mean must reach


class Page(Settings):
    """page.yml."""

    batch: Count = 1  # of the latency in the picture
    sections: tuple[Section, ...]
    training: tuple[Reached, ...] = ()


@dataclass(frozen=True)
class Run:
    """Kept results of a run."""

    ORIGIN: ClassVar[str] = "origin.yml"  # files that end in .yaml below recipes/ are recipes
    record: RunRecord
    origin: Origin

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Read recipes/results/NAME."""
        origin = folder / cls.ORIGIN
        settings = yaml.safe_load(origin.read_text()) if origin.is_file() else {}
        return cls(read_run(folder), Origin.model_validate(settings))

    def describe(self) -> str:
        """Command, date and machine."""
        environment = self.record.environment
        machine = [environment.cpu, f"{environment.threads} threads", environment.gpu, self.origin.machine]
        version = [f"compress {environment.compress}", self.origin.commit and f"commit {self.origin.commit}"]
        known = [self.record.run.started[:10], *filter(None, machine), *filter(None, version)]
        return f"`{self.record.command}`, {markdown(', '.join(known))}"


@dataclass(frozen=True)
class Result:
    """A variant of one run, by one of its files: accuracy, size and latency are of the same file."""

    run: Run
    variant: Variant
    file: Artifact | None
    latency: LatencyRow | None

    @property
    def top1(self) -> float:
        known = self.file and self.file.top1
        return self.variant.accuracy.top1 if known is None else known

    @property
    def ci95(self) -> Interval:
        return (self.file and self.file.ci95) or self.variant.accuracy.ci95

    @property
    def bytes(self) -> int:
        return self.file.bytes if self.file else self.variant.inference.bytes


@dataclass(frozen=True)
class Row:
    """A variant, with a result for each seed, and the letter of its runs."""

    results: tuple[Result, ...]
    letter: str = ""

    def spread(self, value: Callable[[Result], float | None], write: f.Format) -> str:
        """One figure where all seeds agree, else the lowest and the highest."""
        values = [value(result) for result in self.results]
        known = sorted(each for each in values if each is not None)
        ends = dict.fromkeys(map(write, (known[0], known[-1]) if known else (None,)))
        return " to ".join(ends)


def result(run: Run, id: str, batch: int, runtime: str | None) -> Result:
    """Choose the file of a variant: of the runtime, or the fastest at the batch that has an accuracy of its own."""
    variant = next((each for each in run.record.variants if each.id == id), None)
    if variant is None:
        raise UsageError(f"page.yml: {run.record.command} has no variant {id!r}; correct its name")
    files = {each.runtime: each for each in variant.artifacts if each.top1 is not None}
    rows = [row for row in variant.inference.latency if row.batch == batch and runtime in (None, row.runtime)]
    fastest = min([row for row in rows if row.runtime in files] or rows, key=lambda row: row.p50_ms, default=None)
    chosen = runtime or (fastest.runtime if fastest else None)
    return Result(run, variant, files.get(chosen or ""), fastest)


def rows(group: Group, runs: Sequence[Run], batch: int, runtimes: Sequence[str], letter: str = "") -> Iterator[Row]:
    """Yield the rows of a group: each variant, in each runtime."""
    check_seeds(group.runs, runs)
    for id in group.variants or [variant.id for variant in runs[0].record.variants]:
        for runtime in runtimes or (None,):
            first = result(runs[0], id, batch, runtime)
            chosen = runtime or (first.latency.runtime if first.latency else None)
            found = [first, *(result(run, id, batch, chosen) for run in runs[1:])]
            distinct = {each.variant.stage_key or number: each for number, each in enumerate(found)}
            yield Row(tuple(distinct.values()), letter)


def check_seeds(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Refuse runs as one row that differ in more than their seeds."""
    settings = [_without_seeds(run.record.recipe.resolved) for run in runs]
    if different := [name for name, each in zip(names, settings, strict=True) if each != settings[0]]:
        raise UsageError(f"page.yml: {names[0]} and {different[0]} differ in more than seeds; make two groups of them")


def _without_seeds(settings: object) -> object:
    if isinstance(settings, dict):
        return {key: _without_seeds(value) for key, value in settings.items() if key != "seed"}
    return [_without_seeds(value) for value in settings] if isinstance(settings, list) else settings


def top1_cell(row: Row) -> str:
    """Top-1 with its interval; of several seeds their mean, range, and each with its interval."""
    each = [f.accuracy(result.top1, result.ci95) for result in row.results]
    if len(each) == 1:
        return each[0]
    tops = [result.top1 for result in row.results]
    return "<br>".join([f"**{f.percent(mean(tops))}**, {f.percent(min(tops))} to {f.percent(max(tops))}", *each])


def latency_cell(row: Row) -> str:
    fastest = row.results[0].latency
    if fastest is None:
        return f.UNKNOWN
    return f"{row.spread(lambda r: r.latency and r.latency.p50_ms, f.milliseconds)}, {fastest.runtime}"


def against_cell(reference: str, row: Row) -> str:
    """Whether equal accuracy is granted, and the doublings that this saves."""
    if row.results[0].variant.id == reference:
        return "reference"
    found = [
        variant
        for result in row.results
        for savings in result.run.record.efficiency
        for variant in savings.variants
        if savings.reference == reference and variant.id == result.variant.id
    ]
    if not found:
        return f.UNKNOWN
    granted = [variant for variant in found if variant.granted]
    share = f" in {len(granted)} of {len(found)}" if len(found) > 1 else ""
    if not granted:
        return "<br>".join(f"not granted: {f.points(v.accuracy_difference, v.difference_ci95)}" for v in found)
    if (granted[0].doublings.macs or 0) < 0 or not is_saving(granted[0]):
        return f"as accurate{share}, not cheaper"
    saved = [f"{f.signed(v.doublings.macs)} in MACs, {f.signed(v.doublings.latency)} in time" for v in granted]
    return f"granted{share}: {'<br>'.join(dict.fromkeys(saved))}"


def section_table(section: Section, found: Sequence[Row], letters: bool) -> Table:
    """Lay out a section."""
    columns: list[Column[Row]] = [
        Column("variant", lambda r: markdown(r.results[0].variant.id), False),
        Column("top-1 (95% interval)", top1_cell),
        Column("test images", lambda r: f"{r.results[0].variant.accuracy.n:,}"),
        Column("MACs", lambda r: r.spread(lambda result: result.variant.inference.macs, f.count)),
        Column("size", lambda r: r.spread(lambda result: result.bytes, f.size)),
        Column(f"latency, batch {section.batch}", latency_cell),
        Column("training MACs", lambda r: r.spread(lambda result: result.variant.training.macs, f.count)),
        Column("seeds", lambda r: str(len(r.results))),
    ]
    if section.reference:
        heading = f"against {markdown(section.reference)}, in doublings"
        columns.append(Column(heading, partial(against_cell, section.reference), False))
    if letters:
        columns.append(Column("run", lambda r: r.letter, False))
    return make_table(section.key, section.title, section.note, columns, found)


def table_lines(table: Table) -> Iterator[str]:
    """A Markdown table; its cells are Markdown already."""
    yield f"| {' | '.join(table.headings)} |"
    yield f"|{'|'.join('---:' if figure else '---' for figure in table.figures)}|"
    yield from (f"| {' | '.join(cells)} |" for cells in table.rows)


def section_lines(section: Section, runs: dict[str, Run]) -> Iterator[str]:
    """The table of a section, and the runs that it is from."""
    letters = "abcdefghijklmnopqrstuvwxyz"[: len(section.groups)]
    found = [
        row
        for letter, group in zip(letters, section.groups, strict=True)
        for row in rows(group, [runs[name] for name in group.runs], section.batch, section.runtimes, letter)
    ]
    yield from table_lines(section_table(section, found, len(letters) > 1))
    yield ""
    for letter, group in zip(letters, section.groups, strict=True):
        mark = f"{letter}: " if len(letters) > 1 else ""
        yield from (f"- {mark}{runs[name].describe()}" for name in group.runs)


def training_table(page: Page, published: Published, runs: dict[str, Run]) -> Table:
    """Training compute to an accuracy beside published ones, in FLOP and doublings."""

    @dataclass(frozen=True)
    class Compared:
        row: Row
        target: float
        other: PublishedTraining

    def compared() -> Iterator[Compared]:
        for entry in page.training:
            group = Group(runs=entry.runs, variants=(entry.variant,))
            (row,) = rows(group, [runs[name] for name in entry.runs], page.batch, ())
            if (reached := mean(result.top1 for result in row.results)) < entry.target:
                raise UsageError(f"page.yml: {entry.variant} has {reached:.2%}, not {entry.target:.0%}; remove it")
            yield from (Compared(row, entry.target, each) for each in published.training if each.top1 >= entry.target)

    def saved(each: Compared, with_teacher: bool) -> str:
        macs = [_training_macs(result.variant, with_teacher) for result in each.row.results]
        known = [value for value in macs if value is not None]
        return f.signed(doublings(each.other.flop / (2 * mean(known)))) if len(known) == len(macs) else "not stated"

    columns: list[Column[Compared]] = [
        Column("target", lambda c: f"{c.target:.0%}"),
        Column("variant", lambda c: markdown(c.row.results[0].variant.id), False),
        Column("top-1 (95% interval)", lambda c: top1_cell(c.row)),
        Column("training, FLOP = 2 x MACs", lambda c: c.row.spread(lambda r: 2 * r.variant.training.macs, _flop)),
        Column("published", lambda c: f"{c.other.name}: {_flop(c.other.flop)} to {100 * c.other.top1:g}%", False),
        Column("doublings", lambda c: saved(c, False)),
        Column("with the teacher's own training", lambda c: saved(c, True)),
    ]
    return make_table("training", "Training compute", "", columns, compared())


_flop = f.known(lambda value: f"{f.count(value)}FLOP")


def _training_macs(variant: Variant, with_teacher: bool) -> float | None:
    before = variant.training.teacher_pretraining
    if not with_teacher or before is None:
        return variant.training.macs
    return None if before.macs is None else variant.training.macs + before.macs


def published_lines(published: Published) -> Iterator[str]:
    """Tables of what others published, with sources."""
    points: list[Column[Point]] = [
        Column("network", lambda p: p.name, False),
        Column("top-1", lambda p: f"{100 * p.top1:.4g}%{' (quality target)' if p.target else ''}"),
        Column("MACs", lambda p: f"{p.macs / 1e6:.4g} M"),
        Column("source", lambda p: p.source, False),
    ]
    training: list[Column[PublishedTraining]] = [
        Column("training", lambda p: p.name, False),
        Column("top-1", lambda p: f"{100 * p.top1:.4g}%"),
        Column("FLOP", lambda p: _flop(p.flop)),
        Column("source", lambda p: p.source, False),
    ]
    yield from table_lines(make_table("points", "", "", points, published.points))
    yield ""
    yield from table_lines(make_table("training", "", "", training, published.training))


HEAD = """\
# Results

<!-- made by scripts/make_results from recipes/results; edit page.yml there, not this page -->

Every figure of ours is from the `results.json` of a run, kept in [results](results), and the command below its table
makes it again. Top-1, size and latency of a row are of the same file, in the runtime that is named. Intervals are
Wilson's 95% intervals over the test images; they do not cover retraining, which several seeds show: their mean, lowest
and highest, then each with its interval. MACs are multiply-accumulates of one image. Training MACs are everything that
the recipe has spent, teacher forwards and repair included, without the teacher's own training. Latency is the median of
one batch. How to add a run: [scripts/make_results](../scripts/make_results).
"""
TRAINING = """\
## Training compute

Doublings are log2 of the published training compute divided by ours; below zero, ours took more. MACs of ours count as
2 FLOP each. Ours learn from a teacher, whose own training the last column adds in full.
"""
PUBLISHED = """\
## Published figures

Nothing in these two tables was measured here.
"""


def page_files(root: Path) -> dict[Path, str]:
    """The page, its pictures, and the README where it has markers: path to content.

    Raises:
        UsageError: page.yml names a run or variant that is not there, or runs that do not belong together.
    """
    from _results_charts import pictures

    folder = root / "recipes" / "results"
    page = Page.model_validate(yaml.safe_load((folder / "page.yml").read_text()))
    published = Published.model_validate(yaml.safe_load((folder / "published.yml").read_text()))
    names = [name for section in page.sections for group in section.groups for name in group.runs]
    names += [name for entry in page.training for name in entry.runs]
    runs = {name: Run.read(folder / name) for name in dict.fromkeys(names)}

    drawn = pictures(page, published, runs)
    tables = {section.key: "\n".join(section_lines(section, runs)) for section in page.sections}
    parts = [HEAD, drawn.caption]
    for section in page.sections:
        parts += [
            f"## {section.title}\n",
            *([f"{section.note.strip()}\n"] if section.note else []),
            tables[section.key] + "\n",
        ]
    if page.training:
        parts += [TRAINING, "\n".join(table_lines(training_table(page, published, runs))) + "\n"]
    parts += [PUBLISHED, "\n".join(published_lines(published)) + "\n"]
    files = {root / "recipes" / "RESULTS.md": "\n".join(parts)}
    files |= {folder / name: svg for name, svg in drawn.files.items()}
    readme = root / "README.md"
    if readme.is_file():
        files[readme] = with_tables(readme.read_text(), tables)
    return files


def with_tables(text: str, tables: dict[str, str]) -> str:
    """Fill each block from `<!-- results: KEY -->` to `<!-- /results -->` with the table of that section."""

    def fill(block: re.Match[str]) -> str:
        if block[2] not in tables:
            raise UsageError(f"README.md: page.yml has no section {block[2]!r}; correct the marker")
        return f"{block[1]}\n\n{tables[block[2]]}\n\n{block[3]}"

    return re.sub(r"(<!-- results: (\S+) -->)\n.*?(<!-- /results -->)", fill, text, flags=re.DOTALL)
