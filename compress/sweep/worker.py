"""A worker of a sweep: proposes trials, makes them, and stores what each gave."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from compress.pipeline.failures import RunFailed
from compress.pipeline.runner import Run
from compress.recipe.load import load_recipe
from compress.report.savings import first_reference
from compress.results import RunRecord, Variant
from compress.results.read import read_run
from compress.store.leases import alone, duration
from compress.sweep.claim import Claims, Stamp
from compress.sweep.compute import spent_by_unit, total_macs
from compress.sweep.job import Job
from compress.sweep.objectives import figures_of, missing_objectives
from compress.sweep.output import trial_line
from compress.sweep.pareto import is_hopeless
from compress.sweep.records import Figures, Proposal, RungRecord, State, Trial
from compress.sweep.sampler import propose
from compress.utils.console import say
from compress.utils.errors import CompressError, RecipeError, UsageError, first_line, is_interruption

_FIGURES = re.compile(r"\S*\d\S*")  # words of a reason that differ between trials: epochs, folders, addresses
MAX_FAILURES = 3  # in a row for the same reason, after which a sweep stops
MAX_INFEASIBLE = 100  # in a row: nothing is trained, so that neither hours nor MACs would end it soon


class RecipeChanged(CompressError):
    """The recipe is another one than that of the trials so far, or cannot be read any more."""


@dataclass
class _Progress:
    """A trial while it is made."""

    rungs: list[RungRecord] = field(default_factory=list)
    spent: dict[str, int] = field(default_factory=dict)
    reference: Variant | None = None

    def add(self, job: Job, value: int | None, run: Run, variant: Variant) -> None:
        """Add a run, which has all objectives."""
        folder = str(run.folder.relative_to(job.folder.runs))
        self.rungs.append(RungRecord(value=value, run=folder, figures=figures_of(run.record, variant)))
        named = first_reference(run.record)
        self.reference = next((each for each in run.record.variants if each.id == named), None)

    def charge(self, record: RunRecord) -> None:
        """Charge the training compute of a run."""
        for key, macs in spent_by_unit(record).items():
            self.spent[key] = max(self.spent.get(key, 0), macs)


def work(job: Job) -> str:
    """Make trials until a limit is reached; return which.

    Raises:
        CompressError: three trials in a row failed for the same reason, or the recipe refused a hundred.
        RecipeChanged: the recipe was edited; the trial that was to be made is made after a restart.
    """
    started, failures, infeasible = time.monotonic(), list[str](), 0
    claims = Claims(job.folder.claims)
    while True:
        if reason := _limit(job, started):
            return reason
        ended = _next_trial(job, claims)
        if isinstance(ended, str):
            return ended
        infeasible = infeasible + 1 if ended.state == "infeasible" else 0
        if infeasible == MAX_INFEASIBLE:
            raise CompressError(
                f"the recipe refused the settings of {MAX_INFEASIBLE} trials in a row, the last: {ended.reason}; "
                "narrow the parameters of the space"
            )
        if ended.state != "failed":
            if ended.state != "infeasible":
                failures.clear()
            continue
        failures.append(_FIGURES.sub("#", ended.reason or ""))
        if failures[-MAX_FAILURES:] == failures[-1:] * MAX_FAILURES:
            raise CompressError(
                f"{MAX_FAILURES} trials in a row failed: {ended.reason}; fix it and rerun the same command with "
                "--retry-failed"
            )


def _limit(job: Job, started: float) -> str | None:
    """Return the limit that is reached."""
    limits = job.limits
    if limits.hours is not None and time.monotonic() - started >= 3600 * limits.hours:
        return f"{limits.hours:g} hours have passed"
    if limits.macs is not None and total_macs(job.folder.trials()) >= limits.macs:
        return f"trials have taken {limits.macs:.3g} training MACs"
    return None


def _next_trial(job: Job, claims: Claims) -> Trial | str:
    """Make the first trial that has not ended and that no other worker makes; return why where there is none.

    Where only trials of other workers are left, it waits until each of these has given a sign of life, has ended its
    trial or has lost it: a machine that is gone is known by nothing else.
    """
    first: dict[int, Stamp | None] = {}
    until = time.monotonic() + 2 * duration()  # in case its lease cannot be taken from it
    while True:
        held: list[int] = []
        found = _first_free(job, claims, held)
        stamps = {number: claims.stamp(number) for number in held}
        silent = [each for each, stamp in stamps.items() if stamp in (None, first.setdefault(each, stamp))]
        if isinstance(found, Trial) or not silent or time.monotonic() > until:
            return found
        time.sleep(duration() / 60)


def _first_free(job: Job, claims: Claims, held: list[int]) -> Trial | str:
    """Make the first trial that is free, and list those before it that other workers hold."""
    for number in itertools.count():
        if job.limits.trials is not None and number >= job.limits.trials:
            return f"{job.limits.trials} trials"
        if job.folder.has_ended(number):
            continue
        with claims.claim(number) as mine:
            if not mine:
                held.append(number)
                continue
            if job.folder.has_ended(number):
                continue
            proposal = _proposal(job, number)
            if proposal is None:
                return f"all {job.space.size():,} combinations were tried"
            trial = _make(job, proposal)
            job.folder.end(trial)
            say(trial_line(trial, job.space.objectives))
            return trial
    raise AssertionError


def _proposal(job: Job, number: int) -> Proposal | None:
    """Return the settings of a trial: those with which a killed worker began it, or new ones."""
    if begun := job.folder.proposal(number):
        return begun
    with alone(job.folder.path, "propose"):  # or two workers would choose the same
        ended = job.folder.trials()
        by_number = {trial.number: trial for trial in ended}
        proposal = propose(job.sampler_input, number, ended, job.folder.begun(by_number))
        if proposal:
            job.folder.begin(proposal)
    return proposal


def _make(job: Job, proposal: Proposal) -> Trial:
    """Make a trial; a failure is recorded, an interruption is raised."""
    say(f"trial {proposal.number}: {' '.join((*proposal.overrides, f'({proposal.variant})'))}")
    clock, progress = time.monotonic(), _Progress()
    state: State
    try:
        reason = _run_rungs(job, proposal, progress)
        state = "stopped" if reason else "done"
    except RecipeChanged:
        raise
    except RecipeError as error:
        state, reason = "infeasible", first_line(error)
    except Exception as error:
        if is_interruption(error):
            raise
        kind = "" if isinstance(error, CompressError) else f"unexpected {type(error).__name__}: "
        state, reason = "failed", kind + first_line(error)
    reference = progress.reference
    return Trial(
        **dict(proposal),
        state=state,
        rungs=tuple(progress.rungs),
        reference=reference.id if reference else None,
        reference_validation=reference.validation.top1 if reference and reference.validation else None,
        spent=progress.spent,
        reason=reason,
        seconds=round(time.monotonic() - clock, 3),
    )


def _run_rungs(job: Job, proposal: Proposal, progress: _Progress) -> str | None:
    """Run a trial with more and more epochs; return at which rung it was stopped."""
    fidelity = job.space.fidelity
    values: list[int | None] = [*fidelity.rungs] if fidelity else [None]
    for value in values:
        run, variant = _run(job, proposal, value, progress)
        progress.add(job, value, run, variant)
        if fidelity is None or value is None or value == values[-1]:
            continue
        figures = {**_at_rung(job, value), proposal.number: progress.rungs[-1].figures}
        if is_hopeless(proposal.number, figures, job.space.objectives, fidelity.keep):
            rung = f"{', '.join(fidelity.keys)}={value} of {values[-1]}"
            return f"stopped at {rung}: others of the {len(figures)} trials there are better"
    return None


def _at_rung(job: Job, value: int) -> Mapping[int, Figures]:
    """Return the figures of all trials that have reached a rung."""
    return {trial.number: rung.figures for trial in job.folder.trials() for rung in trial.rungs if rung.value == value}


def _run(job: Job, proposal: Proposal, value: int | None, progress: _Progress) -> tuple[Run, Variant]:
    """Run a trial once; a run in which something else failed counts if it has the variant and all objectives.

    Raises:
        CompressError: it has not.
        RecipeChanged: the recipe is another one than that of the sweep.
    """
    _refuse_changed(job)
    overrides = [*proposal.overrides, *job.rung_overrides(value)]
    failed: RunFailed | None = None
    try:
        recipe = load_recipe(job.path, [*job.overrides, *overrides])
        run = job.make(recipe, job.folder.runs, job.command(overrides), job.folder.page_from_run)
    except RunFailed as error:
        failed, run = error, Run(error.folder, read_run(error.folder))
    assert run is not None  # of a follower, which a sweep has none of
    progress.charge(run.record)
    variant = next((each for each in run.record.variants if each.id == proposal.variant), None)
    lacking = (
        "was not made" if variant is None else missing_objectives(job.space.objectives, figures_of(run.record, variant))
    )
    if variant is None or lacking:
        raise failed or CompressError(f"{proposal.variant}: {lacking}")
    return run, variant


def _refuse_changed(job: Job) -> None:
    try:
        changed = load_recipe(job.path, job.overrides).resolved() != job.recipe.resolved()
        found = f"{job.path} is another recipe now than when this sweep began" if changed else None
    except UsageError as error:  # also of a file that is gone for a moment, as while an editor saves it
        found = f"{job.path} cannot be read any more ({first_line(error)})"
    if found:
        raise RecipeChanged(f"{found}; undo the change and rerun the same command, or name another sweep with --name")
