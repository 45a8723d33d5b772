"""Follower processes of multi-device training.

Lightning starts the same command for every further device, or a cluster starts it on all nodes. A follower writes
nothing: it reads from the store what the leading process has made, joins its training, and waits in between.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compress.data.prepared import prepare
from compress.pipeline.plan import make_plan
from compress.recipe.schema import Recipe
from compress.stages.planned import Plan
from compress.store.leases import Lease, entry_lease
from compress.store.origin import shared_runs
from compress.store.store import Store
from compress.store.work_folders import work_folder
from compress.utils.console import muted
from compress.utils.errors import CompressError, UsageError, first_line

RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")
NONE_THERE = "`compress.run` returns None in further processes of a run on several devices: test for it"


START_S = 600.0  # in which the leading process of a run that all nodes start at once has planned it


@contextmanager
def leading(plan: Plan, store: Store) -> Iterator[None]:
    """Let followers see meanwhile that this process makes the stages of a plan; does nothing on one device."""
    if not plan.recipe.trainer.several_processes:
        yield
        return
    lease = _leader(plan, store)
    lease.wait()
    try:
        yield
    finally:
        lease.release()


def _leader(plan: Plan, store: Store) -> Lease:
    return entry_lease(store.root, f"leader-{plan.latency_key}")


class WaitingStore(Store):
    """A store whose missing entries are made by another process."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.leader: Lease | None = None
        self._seen, self._since = False, time.monotonic()

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Wait for the entry `key` and return its folder; a `CompressError` if the leader has exited."""
        while not self.has(key):
            self._wait(what)
        return self.path(key), True

    def work_folder(self, key: str, what: str) -> Path | None:
        """Wait until the leader makes the entry `key`, and return the folder in which it does; None if it is made."""
        while (maker := self.maker(key)) is None:
            if self.has(key):
                return None
            self._wait(what)
        return work_folder(self.root, key, *maker)

    def offer(self, key: str, what: str, make: Callable[[Path], None]) -> bool | None:
        """Make nothing: it is the leader's."""
        return False if self.has(key) else None

    def _wait(self, what: str) -> None:
        if self.leader and self.leader.claim():
            self.leader.release()
            if self._seen or time.monotonic() - self._since > START_S:
                raise CompressError(f"the process making {what} has exited; rerun the recipe to resume")
        else:
            self._seen = True
        time.sleep(0.2)


def check_nodes(recipe: Recipe, runs: Path) -> None:
    """Refuse a fit on several nodes whose states would lie in a cache of one of them.

    Raises:
        UsageError: `runs` stands for a URL, and the recipe has several nodes.
    """
    if recipe.trainer.num_nodes > 1 and shared_runs(runs):
        raise UsageError("`trainer.num_nodes` needs a folder that all nodes see; give one to --runs instead of a URL")


def joined_as_follower(recipe: Recipe, runs: Path) -> bool:
    """Join the trainings of a leading process if this one is a follower; returns whether it is.

    Raises:
        UsageError: as `check_nodes`.
    """
    check_nodes(recipe, runs)
    if not is_follower(recipe):
        return False
    store = WaitingStore(runs / "store")
    follow(make_plan(recipe, store), store)
    return True


def is_follower(recipe: Recipe) -> bool:
    """Return whether this process only joins the training of a leading process."""
    several = recipe.trainer.several_processes
    return several and any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def explain_errors_after_follower() -> None:
    """End a follower whose script fails from now on with one line, and without ending the leading process.

    There `compress.run` returns None, which scripts tend not to expect. Lightning stops the leading process, whatever
    it does, when a follower exits with an error.
    """

    def end(kind: type[BaseException], error: BaseException, _: object) -> None:
        what = f"{kind.__name__}: {first_line(error)}"
        print(f"error: a follower process ended with {what}; {NONE_THERE}", file=sys.stderr, flush=True)
        os._exit(0)

    sys.excepthook = end


def lost_follower(error: BaseException) -> bool:
    """Return whether an error of a training says that another of its processes has ended."""
    from torch import distributed

    if distributed.is_available() and isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error) and "peer" in str(error)


def follow(plan: Plan, store: WaitingStore) -> None:
    """Join the training of all stages that are not in the store yet."""
    from compress.stages.context import StageContext
    from compress.training.fit import FollowerFinished

    store.leader = _leader(plan, store)
    with muted():
        context = StageContext(plan, store, prepare(plan.recipe.data, store, plan.recipe.seed))
        for planned in plan.variants:
            if not planned.stage.joined_by_devices() or store.has(planned.key):
                continue
            for name in (planned.parent, planned.teacher):
                if name:
                    store.get(plan.stage(name).key, name, lambda folder: None)
            folder = store.work_folder(planned.key, planned.id)
            if folder is None:
                continue
            make = planned.stage.load_maker()
            try:
                make(context, planned, folder)
            except FollowerFinished:
                continue
