"""Content of recipes/results: settings, kept results of runs, and the rows of tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import yaml
from pydantic import BaseModel, ConfigDict

from compress.efficiency.files import name_of
from compress.report import formats as f
from compress.report.page import markdown
from compress.results import Artifact, LatencyRow, RunRecord, Variant
from compress.results.base import Count, Fraction, Interval
from compress.results.read import read_run
from compress.utils.errors import UsageError


class Settings(BaseModel):
    """A part of a YAML file in recipes/results; a key that it does not have is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Origin(Settings):
    """Facts about a run that results.json lacks."""

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
    target: Fraction  # top-1 that it was tuned for, which ours must have too to be beside it
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
    target: Fraction  # top-1 that its mean must reach; shown where the lower end of the interval does too


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
        known = self.file.top1 if self.file else None
        return self.variant.accuracy.top1 if known is None else known

    @property
    def ci95(self) -> Interval:
        return (self.file and self.file.ci95) or self.variant.accuracy.ci95

    @property
    def bytes(self) -> int:
        return self.file.bytes if self.file else self.variant.inference.bytes

    @property
    def recipe(self) -> str:
        return self.run.record.recipe.name

    @property
    def p50_ms(self) -> float | None:
        return self.latency.p50_ms if self.latency else None

    @property
    def runtime(self) -> str | None:
        """Runtime, and precision where that is half."""
        of = self.file or self.latency
        return name_of(of) if of else None


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


def _result(run: Run, id: str, batch: int, runtime: str | None) -> Result:
    """Choose the file of a variant: the one of this name, or the fastest at the batch that has its own accuracy."""
    variant = next((each for each in run.record.variants if each.id == id), None)
    if variant is None:
        raise UsageError(f"page.yml: {run.record.command} has no variant {id!r}; correct its name")
    files = {name_of(each): each for each in variant.artifacts if each.top1 is not None}
    timed = [row for row in variant.inference.latency if row.batch == batch and runtime in (None, name_of(row))]
    fastest = min([row for row in timed if name_of(row) in files] or timed, key=lambda row: row.p50_ms, default=None)
    chosen = runtime or (name_of(fastest) if fastest else "")
    return Result(run, variant, files.get(chosen), fastest)


def rows(group: Group, runs: Sequence[Run], batch: int, runtimes: Sequence[str], letter: str = "") -> Iterator[Row]:
    """Yield the rows of a group: each variant, in each of the runtimes that it has a file for, or in its fastest."""
    check_seeds(group.runs, runs)
    for id in group.variants or [variant.id for variant in runs[0].record.variants]:
        fastest = _result(runs[0], id, batch, None)
        files = [name_of(each) for each in fastest.variant.artifacts]
        chosen: list[str | None] = [each for each in runtimes if each in files]
        for runtime in chosen or [fastest.runtime]:
            found = {run.record.run.id: _result(run, id, batch, runtime) for run in runs}
            made = {each.variant.stage_key or run: each for run, each in found.items()}  # seeds may share a variant
            yield Row(tuple(made.values()), letter)


def check_seeds(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Refuse runs as one row that differ in more than their seeds."""
    settings = [_without_seeds(run.record.recipe.resolved) for run in runs]
    if different := [name for name, each in zip(names, settings, strict=True) if each != settings[0]]:
        raise UsageError(f"page.yml: {names[0]} and {different[0]} differ in more than seeds; make two groups of them")


def _without_seeds(settings: object) -> object:
    if isinstance(settings, dict):
        return {key: _without_seeds(value) for key, value in settings.items() if key != "seed"}
    return [_without_seeds(value) for value in settings] if isinstance(settings, list) else settings
