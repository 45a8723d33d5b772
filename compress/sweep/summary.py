"""The record of a sweep, from what its trials and their runs left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compress.report.sides import Side
from compress.results.read import read_run
from compress.sweep.answer import find_answer, find_cost
from compress.sweep.compute import making_macs, search_compute
from compress.sweep.job import Job
from compress.sweep.pareto import Dominated, dominance
from compress.sweep.records import Point, Sweep, Trial
from compress.sweep.testing import FinishedTrial
from compress.utils.errors import CompressError
from compress.utils.messages import truncate_list

RUNGS = (
    "a trial at a rung is a run of its own: its learning rate schedule ends there, so nothing of its fit is reused at "
    "the next, only what comes before it, and the search is charged for all"
)
TIMED = (
    "trials were timed at different times, so that their latencies differ by phases of the machine too; "
    "`compress-model bench` times the files of several trials side by side"
)
METRIC = "trials are selected by top-1 on validation, and tested by worth.metric, {}, on the test images"
INTERRUPTED = "none yet: the sweep has not reached its end, before which no test image is used; rerun the same command"
UNFINISHED = (
    "none yet: trial{} {} began and did not end, and before that no test image is used; wait for the worker that makes "
    "it, or rerun with --trials {}"
)


def summarize(job: Job, ended: str, *, interrupted: bool = False) -> Sweep:
    """Read all trials and their runs, find the front and the answer.

    Args:
        job: The sweep.
        ended: Why no further trial is begun.
        interrupted: Whether an error or the user ended it, so that nothing is tested.
    """
    trials = job.folder.trials()
    found, remarks = _read_runs(job, trials)
    figures = {number: each.figures for number, each in found.items()}
    cost = [] if job.space.costs() else [find_cost(job, list(figures.values()))]
    objectives = (*job.space.objectives, *cost)
    standing = dominance({number: each.side for number, each in found.items()}, figures, objectives)
    answer = find_answer(job, found, INTERRUPTED if interrupted else _unfinished(job, trials))
    best = found.get(answer.trial) if answer.trial is not None else None
    return Sweep(
        name=job.folder.name,
        recipe=job.recipe.name,
        objectives=tuple(job.space.objectives),
        sampler=job.space.sampler,
        combinations=job.space.size(),
        ended=ended,
        points=tuple(_point(job, trial, found.get(trial.number), standing.get(trial.number)) for trial in trials),
        answer=answer,
        compute=search_compute(trials, making_macs(best.side) if best else None),
        remarks=(*remarks, *_remarks(job, trials)),
    )


def _unfinished(job: Job, trials: Iterable[Trial]) -> str | None:
    """Say which trials began and have not ended: another worker makes them, or one was killed."""
    numbers = [each.number for each in job.folder.begun({trial.number: trial for trial in trials})]
    if not numbers:
        return None
    return UNFINISHED.format("s" * (len(numbers) > 1), truncate_list(list(map(str, numbers))), max(numbers) + 1)


def _read_runs(job: Job, trials: Iterable[Trial]) -> tuple[dict[int, FinishedTrial], list[str]]:
    """Read the results of the trials that are done; those whose run is gone are left out with a remark."""
    found: dict[int, FinishedTrial] = {}
    remarks = []
    for trial in trials:
        if trial.state != "done":
            continue
        folder = job.folder.runs / trial.rungs[-1].run
        try:
            run = read_run(folder)
            variant = next(each for each in run.variants if each.id == trial.variant)
        except (CompressError, StopIteration):
            remarks.append(f"trial {trial.number} is left out: {folder} is gone; rerun {job.command_of(trial)}")
            continue
        found[trial.number] = FinishedTrial(trial, Side(run, variant))
    return found, remarks


def _point(job: Job, trial: Trial, ended: FinishedTrial | None, standing: Dominated | None) -> Point:
    validation = ended.side.variant.validation if ended else None
    return Point(
        number=trial.number,
        state=trial.state,
        settings=trial.settings,
        variant=trial.variant,
        figures=trial.figures,
        validation_ci95=validation.ci95 if validation else None,
        dominance=standing.dominance if standing else None,
        dominated_by=standing.by if standing else None,
        command=job.command_of(trial),
        run=trial.rungs[-1].run if trial.rungs else None,
        reason=trial.reason,
    )


def _remarks(job: Job, trials: Iterable[Trial]) -> Iterator[str]:
    if job.recipe.worth.metric != "top1":
        yield METRIC.format(job.recipe.worth.metric)
    if job.space.fidelity:
        yield RUNGS
    if len({trial.reference_validation for trial in trials if trial.reference}) > 1:
        yield "trials differ in the recipe's first reference: accuracy is compared with the most accurate on validation"
    if any(name.startswith("latency.") for name in job.space.objectives):
        yield TIMED
    yield "each trial was trained once; trainings with different seeds differ by more than intervals over images show"
