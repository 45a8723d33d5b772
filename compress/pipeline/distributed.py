"""Follower processes of multi-device training.

Lightning starts the same command for every further device, or a cluster starts it on all nodes. A follower writes
nothing: it reads from the store what the leading process has made, joins its training, and waits in between.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from compress.data.prepared import prepare
from compress.recipe.schema import Recipe
from compress.stages.planned import Plan
from compress.store.store import Store
from compress.utils.console import muted
from compress.utils.errors import CompressError, first_line

RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")
NONE_THERE = "`compress.run` returns None in further processes of a run on several devices: test for it"


class WaitingStore(Store):
    """A store whose missing entries are made by another process."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.leader = os.getppid()

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Wait for the entry `key` and return its folder; a `CompressError` if the leader has exited."""
        while not self.has(key):
            if os.getppid() != self.leader:
                raise CompressError(f"the process making {what} has exited; rerun the recipe to resume")
            time.sleep(0.2)
        return self.path(key), True


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

    with muted():
        context = StageContext(plan, store, prepare(plan.recipe.data, store, plan.recipe.seed))
        for planned in plan.variants:
            if not planned.stage.joined_by_devices() or store.has(planned.key):
                continue
            for name in (planned.parent, planned.teacher):
                if name:
                    store.get(plan.stage(name).key, name, lambda folder: None)
            make = planned.stage.load_maker()
            try:
                make(context, planned, store.root / "partial" / planned.key)
            except FollowerFinished:
                continue
