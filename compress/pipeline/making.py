"""Make the stages of a plan that the store lacks, alone or beside other workers on the same store."""

from __future__ import annotations

import time
import traceback
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from compress.pipeline.cost_model import expected
from compress.pipeline.eta import TimeLeft
from compress.pipeline.failures import Failures, is_of_work, needs, reason_of
from compress.pipeline.job import Job
from compress.pipeline.one_stage import offer_stage
from compress.pipeline.progress_table import ProgressTable
from compress.pipeline.run_folder import Log
from compress.stages.planned import PlannedStage
from compress.store.failures import failed_attempts, forget_failures, record_failure
from compress.store.leases import POLL_S
from compress.store.workers import reporting
from compress.utils.console import console, duration, say, time_after
from compress.utils.errors import CompressError, first_line, is_interruption
from compress.utils.machine_faults import is_disk_full
from compress.utils.messages import join_words

if TYPE_CHECKING:
    from compress.stages.context import StageContext
    from compress.training.embedding_devices import Shard

MAX_PAUSE_S = 5.0  # between two looks at what other processes make


def make_all(job: Job, attempts: int | None = None) -> tuple[list[str], Failures]:
    """Make the stages that the store lacks and that no other process makes; a terminal shows the remaining time.

    Args:
        attempts: Failed attempts by any worker after which a stage is given up. None: after one of this process,
            whatever others have tried.

    Returns:
        The ids of the stages that this process did not make, and what failed. On several devices the first failure is
        raised: the other processes would wait for the stage.
    """
    return Making(job, attempts).all()


@dataclass
class Making:
    """The stages of a plan that are left, and what became of the others."""

    job: Job
    attempts: int | None
    stored: list[str] = field(default_factory=list)
    failures: Failures = field(default_factory=Failures)
    waited: bool = False
    pause: float = POLL_S  # seconds between two looks at what other processes make
    busy_until: dict[str, float] = field(default_factory=dict)  # when to look next, by stage
    shards: dict[str, list[Shard]] = field(default_factory=dict)  # of embeddings, of stages that other processes make
    embedded: set[str] = field(default_factory=set)  # stages whose teachers were loaded for their shards

    def __post_init__(self) -> None:
        self.left = {planned.id: planned for planned in self.job.plan.stages}
        self.progress = ProgressTable()
        stages, store = self.job.plan.stages, self.job.store
        self.shows_progress = self.attempts is None and not all(store.has(planned.key) for planned in stages)
        self.remaining = _time_left(self.job) if self.shows_progress and console.is_terminal else None

    def all(self) -> tuple[list[str], Failures]:
        """Settle all stages; see `make_all`."""
        while self.left:
            if not self.step():
                self.wait()
        return self.stored, self.failures

    @cached_property
    def context(self) -> StageContext:
        return self.job.context()

    def step(self) -> bool:
        """Settle the first stage that can be settled now; False if all that are left wait for other processes."""
        settled = any(map(self._settle, list(self.left.values())))
        self.waited = self.waited and not settled
        return settled

    def wait(self) -> None:
        """Wait a moment for other processes, longer each time; the first time this is said."""
        if not self.waited:
            self.say_waiting()
            self.pause = POLL_S
        self.waited = True
        time.sleep(self.pause)
        self.pause = min(1.2 * self.pause, MAX_PAUSE_S)

    def say_waiting(self) -> None:
        """Say what other processes are making."""
        busy = [planned.id for planned in self.left.values() if planned.id in self.busy_until]
        say(f"store: another run is making {join_words(busy, 'and') or 'what is left'}; waiting for it")

    def _settle(self, planned: PlannedStage) -> bool:
        """Return whether a stage is stored, made, failed or skipped now."""
        if time.monotonic() < self.busy_until.get(planned.id, 0.0):
            return False
        if self._is_stored(planned):
            self._say(planned, "taken from the store")
            self.job.log.write("stored", unit=planned.id, key=planned.key)
            self.stored.append(planned.id)
            self._finish(planned)
        elif missing := self.failures.blocks(planned):
            self._say(planned, f"skipped, as {missing} failed")
            self._take_off(planned)
        elif any(name in self.left for name in needs(planned)):
            return False
        elif damaged := self._damaged(planned):
            self.stored = [each for each in self.stored if each != damaged.id]
            self.left = {damaged.id: damaged, **self.left}
        elif not self._given_up(planned):
            return self._offer(planned)
        return True

    def _say(self, planned: PlannedStage, text: str) -> None:
        stages = self.job.plan.stages
        say(f"[{stages.index(planned) + 1}/{len(stages)}] {planned.id}: {text}")

    def _finish(self, planned: PlannedStage) -> None:
        """Record a stage that is in the store."""
        self._take_off(planned)
        self.failures.add_files(planned, self.job.store)
        if self.shows_progress and planned.makes_variant:
            self.progress.add(planned.id, self.context.metrics(planned.id))

    def _take_off(self, planned: PlannedStage) -> None:
        """Take a stage off the list, and the teachers that made its embeddings off the devices."""
        del self.left[planned.id]
        if self.remaining:
            self.remaining.drop(planned.id)
        self.shards.pop(planned.id, None)
        if planned.id in self.embedded:
            from compress.measurement.batch_size import free_memory

            free_memory()

    def _is_stored(self, planned: PlannedStage) -> bool:
        """Return whether the store has a stage; a worker does not read the files of those that it does not need."""
        store = self.job.store
        return store.has(planned.key) if self.attempts is None else store.exists(planned.key)

    def _damaged(self, planned: PlannedStage) -> PlannedStage | None:
        """Return a stage that another one needs and that is damaged, or was deleted meanwhile."""
        stages = map(self.job.plan.stage, needs(planned))
        return next((need for need in stages if not self.job.store.has(need.key)), None)

    def _given_up(self, planned: PlannedStage) -> bool:
        """Give a stage up that workers could not make."""
        failed = failed_attempts(self.job.store.root, planned.key) if self.attempts else []
        if len(failed) < (self.attempts or 1) and not any(each.final for each in failed):
            return False
        self._say(planned, f"given up, failed attempts: {len(failed)}")
        self.failures.add_stage(planned, CompressError(failed[-1].error))
        self._take_off(planned)
        return True

    def _offer(self, planned: PlannedStage) -> bool:
        """Make a stage; False if another process is making it."""
        job, clock = self.job, time.monotonic()

        def begin() -> None:
            self._say(planned, planned.stage.progress())
            job.log.write("start", unit=planned.id, key=planned.key)

        try:
            with time_after(self.remaining.after(planned.id)) if self.remaining else nullcontext():
                made = offer_stage(self.context, planned, begin)
        except Exception as error:
            if not self._is_survived(error):
                raise
            self._add_failure(planned, error)
            return True
        if made:
            self._made(planned, time.monotonic() - clock)
        if made is not None:
            return True
        self.busy_until[planned.id] = time.monotonic() + self.pause
        return self._help(planned)

    def _is_survived(self, error: Exception) -> bool:
        """Return whether the other stages go on; on several devices other processes would wait for this one."""
        return is_of_work(error) and not self.job.plan.recipe.trainer.several_processes

    def _help(self, planned: PlannedStage) -> bool:
        """Make a part of what another process is making: teacher embeddings; False if there is none to make.

        That is a shard per device of this machine.
        """
        from compress.stages.fitting import embedding_shards
        from compress.training.embedding_devices import offer_shards

        if planned.id not in self.shards:  # taken from the end: its maker begins at the other one
            self.shards[planned.id] = embedding_shards(self.context, planned)
            if self.shards[planned.id]:
                self.embedded.add(planned.id)
        left, store = self.shards[planned.id], self.job.store
        while left:
            some = [left.pop() for _ in range(min(len(left), len(left[-1])))]
            some = [shard for shard in some if not store.exists(shard[0].key)]
            if not some:
                continue
            what, clock = some[0][0].what, time.monotonic()
            try:
                with reporting(store.job(), planned.id, some[0][0].key):
                    made = offer_shards(store, some)
            except Exception as error:
                if not self._is_survived(error):
                    raise
                say(f"  {planned.id}: {what} is left to its maker: {first_line(error)}")
                left.clear()
                return False
            for part in made:
                say(f"  {planned.id}: made {part.what} in {time.monotonic() - clock:.0f} s")
                self.job.log.write("made", unit=f"{planned.id}: {part.what}", key=part.key)
            if made:
                return True
        return False

    def _made(self, planned: PlannedStage, seconds: float) -> None:
        """Record a stage that has been made."""
        _log_made(self.job.log, self.context, planned, seconds)
        forget_failures(self.job.store.root, planned.key)
        say(f"  done in {seconds:.0f} s")
        if self.remaining:
            self.remaining.done(planned.id, seconds)
        self._finish(planned)
        self.progress.show()

    def _add_failure(self, planned: PlannedStage, cause: Exception) -> None:
        """Record a failed attempt for all workers. Alone, the stage has failed with it."""
        job, reason = self.job, reason_of(cause).removeprefix(f"stage {planned.id}: ")
        error = cause
        if not isinstance(error, CompressError):
            error = CompressError(f"stage {planned.id}: {reason}")
            error.__cause__ = cause
        trace = "".join(traceback.format_exception(cause))
        say(f"  failed: {error}")
        if error is not cause:
            say(f"  its traceback is in {job.log.path}")
        job.log.write("stage failed", unit=planned.id, error=str(error), trace=trace)
        record_failure(job.store.root, planned.key, planned.id, reason, trace, final=error.exit_status == 2)
        if self.attempts is None:
            self.failures.add_stage(planned, error)
            self._take_off(planned)


def _time_left(job: Job) -> TimeLeft | None:
    """Estimate the remaining time; this times networks for some seconds, so only for a terminal.

    None where a network cannot be timed: its stage says why, if it cannot be made either.
    """
    try:
        rows = expected(job.plan, job.store, job.data)
    except Exception as error:
        if is_interruption(error) or is_disk_full(error):
            raise
        say(f"the time that is left is not known: {first_line(error)}")
        return None
    total = duration(sum(row.seconds for row in rows))
    say(f"about {total} in total; see `compress-model plan` for each stage")
    return TimeLeft(rows)


def _log_made(log: Log, context: StageContext, planned: PlannedStage, seconds: float) -> None:
    log.write("made", unit=planned.id, key=planned.key, seconds=round(seconds, 3))
    if planned.makes_variant:
        for divergence in context.metrics(planned.id).training.diverged:
            log.write("diverged", unit=planned.id, **divergence.model_dump())
