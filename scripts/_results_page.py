"""The page of results: tables, and the files that `make_results` writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import yaml
from _results_charts import pictures
from _results_kept import Group, Page, Point, Published, PublishedTraining, Result, Row, Run, Section, rows

from compress.efficiency import doublings
from compress.efficiency.comparison import latency_basis
from compress.efficiency.compute import compute_in_full
from compress.efficiency.files import name_of
from compress.efficiency.headline import is_saving
from compress.report import formats as f
from compress.report.page import markdown
from compress.report.tables import Column, Table, make_table
from compress.results import Variant, VariantSavings
from compress.utils.errors import UsageError
from compress.utils.precision import file_name


def top1_cell(row: Row) -> str:
    """Top-1 with its interval; of several seeds their mean, range, and each with its interval."""
    each = [f.accuracy(result.top1, result.ci95) for result in row.results]
    if len(each) == 1:
        return each[0]
    tops = [result.top1 for result in row.results]
    return "<br>".join([f"**{f.percent(mean(tops))}**, {f.percent(min(tops))} to {f.percent(max(tops))}", *each])


def latency_cell(row: Row) -> str:
    """Median latency, and the runtime that all figures of the row are from."""
    return ", ".join(filter(None, (row.spread(lambda result: result.p50_ms, f.milliseconds), row.results[0].runtime)))


def against_cell(reference: str, batch: int, row: Row) -> str:
    """Whether equal accuracy is granted, and the doublings that this saves."""
    if row.results[0].variant.id == reference:
        return "reference"
    found = [
        (result, variant)
        for result in row.results
        for savings in result.run.record.efficiency
        for variant in savings.variants
        if savings.reference == reference and variant.id == result.variant.id
    ]
    if not found:
        return f.UNKNOWN
    granted = [(result, variant) for result, variant in found if variant.granted]
    share = f" in {len(granted)} of {len(found)}" if len(found) > 1 else ""
    if not granted:
        return "<br>".join(f"not granted: {f.points(v.accuracy_difference, v.difference_ci95)}" for _, v in found)
    first = granted[0][1]
    name = file_name(first.file, first.file_precision)
    file = "" if name == row.results[0].runtime else f"by its file for {name}: "
    if (first.doublings.macs or 0) < 0 or not is_saving(first):
        return f"{file}as accurate{share}, not cheaper"
    saved = [f"{f.signed(v.doublings.macs)} in MACs, {_in_time(reference, batch, r, v)}" for r, v in granted]
    return f"{file}granted{share}: {'<br>'.join(dict.fromkeys(saved))}"


def _in_time(reference: str, batch: int, result: Result, saved: VariantSavings) -> str:
    """Doublings of latency by the granted file at the batch of the section, else at the batch that is named.

    Kept results do not say which files of the reference count: the fastest of all never favours the variant.
    """
    if saved.latency_basis is None or saved.latency_basis.batch == batch:
        return f"{f.signed(saved.doublings.latency)} in time"
    of = next(variant for variant in result.run.record.variants if variant.id == reference)
    base, own = ([row for row in v.inference.latency if row.batch == batch] for v in (of, result.variant))
    basis = latency_basis(base, own, {*map(name_of, base)}, {file_name(saved.file, saved.file_precision)})
    if basis is None:
        return f"{f.signed(saved.doublings.latency)} in time at batch {saved.latency_basis.batch}"
    return f"{f.signed(doublings(basis.ratio))} in time"


def section_table(section: Section, found: Sequence[Row], letters: bool) -> Table:
    """Lay out a section."""
    columns: list[Column[Row]] = [
        Column("variant", lambda r: markdown(r.results[0].variant.id), False),
        Column("top-1 (95% interval)", top1_cell),
        Column("test images", lambda r: f"{r.results[0].variant.accuracy.n:,}"),
        Column("MACs", lambda r: r.spread(lambda result: result.variant.inference.macs, f.count)),
        Column("size", lambda r: r.spread(lambda result: result.bytes, f.size)),
        Column(f"latency, batch {section.batch}", latency_cell),
        Column("training MACs", lambda r: r.spread(lambda result: result.variant.training.macs, _spent)),
        Column("seeds", lambda r: str(len(r.results))),
    ]
    if section.reference:
        heading = f"against {markdown(section.reference)}, in doublings"
        columns.append(Column(heading, partial(against_cell, section.reference, section.batch), False))
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
            if not (same := [each for each in published.training if each.target == entry.target]):
                raise UsageError(
                    f"page.yml: no training in published.yml has the target {entry.target:.0%}; correct it"
                )
            yield from (Compared(row, entry.target, each) for each in same)

    def saved(each: Compared, with_pretraining: bool) -> str:
        macs = [_training_macs(result.variant, with_pretraining) for result in each.row.results]
        known = [value for value in macs if value is not None]
        if len(known) < len(macs):
            return "not stated"
        low = min(result.ci95[0] for result in each.row.results)
        doubt = f"{each.target:.0%} not shown: the interval's lower end is {f.percent(low)}"
        value = doublings(each.other.flop / (2 * mean(known))) or 0.0
        return f.signed(value) if low >= each.target or value <= 0 else f"{f.signed(value)}, {doubt}"

    columns: list[Column[Compared]] = [
        Column("target", lambda c: f"{c.target:.0%}"),
        Column("variant", lambda c: markdown(f"{c.row.results[0].variant.id} of {c.row.results[0].recipe}"), False),
        Column("top-1 (95% interval)", lambda c: top1_cell(c.row)),
        Column("training, FLOP = 2 x MACs", lambda c: c.row.spread(lambda r: 2 * r.variant.training.macs, _flop)),
        Column("published", lambda c: f"{c.other.name}: {_flop(c.other.flop)} to {100 * c.other.top1:g}%", False),
        Column("doublings", lambda c: saved(c, False)),
        Column("with pretraining", lambda c: saved(c, True)),
    ]
    return make_table("training", "Training compute", "", columns, compared())


_flop = f.known(lambda value: f"{f.count(value)}FLOP")


def _spent(macs: float | None) -> str:
    return f.count(macs) if macs else "not counted"  # of a network that existed before the run


def _training_macs(variant: Variant, with_pretraining: bool) -> float | None:
    return compute_in_full(variant) if with_pretraining else variant.training.macs


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
the recipe has spent, teacher forwards and repair included, without what the teacher, and weights that a student starts
from, were trained with. Latency is the median of one batch. How to add a run:
[scripts/make_results](../scripts/make_results).
"""
TRAINING = """\
## Training compute

Doublings are log2 of the published training compute divided by ours; below zero, ours took more. MACs of ours count as
2 FLOP each. The last column adds in full what the teacher, and weights that the student starts from, were trained with.
A target is shown where the lower end of our interval reaches it; without that, doublings above zero are no
claim.
"""
PUBLISHED = """\
## Published figures

Nothing in these two tables was measured here; MACs that a source does not give are counted from the network's layers.
"""


def page_files(root: Path) -> dict[Path, str]:
    """The page, its pictures, and the README where it has markers: path to content.

    Raises:
        UsageError: page.yml names a run or variant that is not there, or runs that do not belong together.
    """
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
