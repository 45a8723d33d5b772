"""The record of a sweep, from what its trials and their runs left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from compress.gate.sides import Side
from compress.results.read import read_run
from compress.sweep.answer import Ended, find_answer
from compress.sweep.compute import search_compute
from compress.sweep.job import Job
from compress.sweep.pareto import Dominated, dominance
from compress.sweep.records import Point, Sweep, Trial
from compress.utils.errors import CompressError

DEFAULT_COSTS = ("macs",)
RUNGS = (
    "a trial at a rung is a run of its own: its learning rate schedule ends there, so nothing of its fit is reused at "
    "the next, only what comes before it, and the search is charged for all"
)
TIMED = (
    "trials were timed at different times, so that their latencies differ by phases of the machine too; "
    "`compress-model bench` times the files of several trials side by side"
)


def summarize(job: Job, ended: str) -> Sweep:
    """Read all trials and their runs, find the front and the answer.

    Args:
        job: The sweep.
        ended: Why no further trial is begun.
    """
    trials = job.folder.trials()
    found, remarks = _read_runs(job, trials)
    objectives = job.space.objectives if job.space.costs() else (*job.space.objectives, *DEFAULT_COSTS)
    figures = {number: each.figures for number, each in found.items()}
    standing = dominance({number: each.side for number, each in found.items()}, figures, objectives)
    answer = find_answer(job, found)
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
        compute=search_compute(trials, best.side.variant.training.macs if best else None),
        remarks=(*remarks, *_remarks(job, trials)),
    )


def _read_runs(job: Job, trials: Iterable[Trial]) -> tuple[dict[int, Ended], list[str]]:
    """Read the results of the trials that are done; those whose run is gone are left out with a remark."""
    found: dict[int, Ended] = {}
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
        found[trial.number] = Ended(trial, Side(run, variant))
    return found, remarks


def _point(job: Job, trial: Trial, ended: Ended | None, standing: Dominated | None) -> Point:
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
    if job.space.fidelity:
        yield RUNGS
    if len({trial.reference_validation for trial in trials if trial.reference}) > 1:
        yield "trials differ in the recipe's first reference: accuracy is compared with the most accurate on validation"
    if any(name.startswith("latency.") for name in job.space.objectives):
        yield TIMED
    yield "each trial was trained once; trainings with different seeds differ by more than intervals over images show"
