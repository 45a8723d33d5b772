"""Follower processes of multi-device training.

Lightning starts the same command for every further device, or a cluster starts it on all nodes. A follower writes
nothing: it reads from the store what the leading process has made, joins its training, and waits in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from compress.data.prepared import prepare
from compress.recipe.schema import Recipe
from compress.stages.planned import Plan
from compress.store.store import Store
from compress.utils.console import muted
from compress.utils.errors import CompressError

RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")


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
