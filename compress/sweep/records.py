"""Records of a sweep: one file per trial, the file of the sweep itself, and what `--json` prints."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from compress.results.base import Count, Fraction, Interval, Record, absent
from compress.utils.metric_name import MetricName

State = Literal["done", "stopped", "failed", "infeasible"]
Dominance = Literal["front", "shown", "apparent"]
Figures = dict[str, float]


class RungRecord(Record):
    """A run of a trial: the whole one, or one with fewer epochs."""

    value: Count | None = Field(description="Value of the keys of fidelity; null without one")
    run: str = Field(description="Folder of the run, relative to that of all runs")
    figures: Figures = Field(description="Accuracy on validation and costs of the variant, by name")


class Proposal(Record):
    """A trial that was begun: its settings, which whoever takes it over keeps."""

    number: Count = Field(description="Number of the trial, from 0")
    settings: dict[str, str | int | float] = Field(
        description="Value of each parameter: a number, or as `--set` takes it"
    )
    variant: str = Field(description="Variant of the recipe that the trial is about")
    overrides: tuple[str, ...] = Field(description="The settings as `--set` takes them")
    sampler: dict[str, Any] = Field({}, description="What the sampler stored about the trial")


class Trial(Proposal):
    """A trial that ended."""

    state: State = Field(
        description="done; stopped at a rung, being hopeless; failed; infeasible: the recipe refuses its settings"
    )
    rungs: tuple[RungRecord, ...] = Field((), description="Its runs, the last one with the most epochs")
    reference: str | None = Field(None, description="First reference of the recipe, which accuracy is compared with")
    reference_validation: Fraction | None = Field(None, description="Accuracy of the reference on validation")
    spent: dict[str, Count] = Field({}, description="Training MACs by stage key, or by cached teacher embeddings")
    reason: str | None = absent("Why it failed or was refused, or at which rung it was stopped")
    seconds: float = Field(description="Duration, seconds")

    @property
    def figures(self) -> Figures:
        """Figures of the last run; empty where it failed, also where that was at a later rung."""
        return self.rungs[-1].figures if self.rungs and self.state in ("done", "stopped") else {}


class SweepFile(Record):
    """`sweep.json`: what all workers of a sweep share."""

    recipe: str = Field(description="Recipe as it was named on the command line")
    overrides: tuple[str, ...] = Field(description="Overrides of all trials")
    recipe_sha256: str = Field(description="SHA-256 of the resolved recipe")
    space_sha256: str = Field(description="SHA-256 of the resolved space")


class Compute(Record):
    """Training compute of the search."""

    macs: Count = Field(description="Training MACs of all trials, stages that several share counted once")
    unshared_macs: Count = Field(description="The same if every trial had made everything itself")
    reused_share: Fraction | None = Field(description="Share of the latter that was reused; null without training")
    making_macs: Count | None = Field(None, description="Training MACs of making the answer; null without one")
    ratio: float | None = Field(None, description="macs over making_macs")


class TestedTrial(Record):
    """A trial of the front on the test split, in a fixed sequence from the most expensive to the cheapest."""

    number: Count = Field(description="Number of the trial")
    file: str = Field(description="File that was tested, or pytorch for the network")
    top1: Fraction | None = Field(description="Top-1 on test; null where the sequence had ended")
    ci95: Interval | None = Field(description="Wilson 95% score interval of top1")
    loss: float | None = Field(description="Accuracy lost against the reference; a fraction")
    loss_ci95: Interval | None = Field(description="Tango's paired 95% score interval of loss")
    granted: bool = Field(description="Whether it is shown to lose no more than the tolerance")
    reason: str = Field(description="Why, or why not")


class TestRound(Record):
    """Models that were compared on test images for one answer."""

    reference: str = Field(description="Store key of the reference, or its run and variant")
    metric: MetricName = Field(description="Accuracy that was compared")
    tolerance: Fraction = Field(description="Loss of accuracy that counts as equal")
    compared: tuple[str, ...] = Field(description="Store key, or run and variant, and file of each that was compared")


class Answer(Record):
    """The trial that a sweep recommends."""

    trial: Count | None = Field(description="Its number; null where none holds all that was asked")
    sentence: str = Field(description="Which one and what it is, or what is missing")
    command: str | None = Field(None, description="Command that makes it again")
    tolerance: Fraction = Field(description="Loss of accuracy that counts as equal, on validation and on test")
    metric: MetricName = Field("top1", description="Accuracy that is compared on test; on validation it is top-1")
    reference: str | None = Field(description="Reference that accuracy is compared with")
    tested: tuple[TestedTrial, ...] = Field((), description="Trials on the test split")
    test_rounds: Count = Field(0, description="Different rounds of tests on the test images that the sweep has had")


class Point(Record):
    """A trial on the Pareto page."""

    number: Count = Field(description="Number of the trial")
    state: State = Field(description="done, stopped, failed or infeasible")
    settings: dict[str, str | int | float] = Field(description="Value of each parameter")
    variant: str = Field(description="Variant of the recipe")
    figures: Figures = Field(description="Accuracy on validation and costs, of the last run")
    validation_ci95: Interval | None = Field(None, description="Wilson 95% score interval of accuracy on validation")
    dominance: Dominance | None = Field(
        description="On the front, shown to be dominated, or only apparently; null for trials that did not end"
    )
    dominated_by: Count | None = Field(None, description="Trial of the front that it is compared with")
    command: str = Field(description="Command that makes it again")
    run: str | None = Field(description="Folder of its last run, relative to that of all runs")
    reason: str | None = absent("Why it failed or was refused, or at which rung it was stopped")


class Sweep(Record):
    """A sweep so far."""

    name: str = Field(description="Name of the sweep")
    recipe: str = Field(description="Name of the recipe")
    objectives: tuple[str, ...] = Field(description="Accuracy on validation and costs, the most important cost first")
    sampler: str = Field(description="Sampler")
    combinations: Count | None = Field(description="Size of the space; null where it has any number of combinations")
    ended: str = Field(description="Why no further trial was begun")
    points: tuple[Point, ...] = Field(description="All trials")
    answer: Answer = Field(description="The recommendation")
    compute: Compute = Field(description="Training compute of the search")
    remarks: tuple[str, ...] = Field(description="Restrictions")
