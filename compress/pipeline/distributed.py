"""The further processes of a training on several devices: they join the process that writes.

Lightning starts the recipe's command again for each further device (or a cluster starts it everywhere at once). Such a
follower makes and writes nothing: it takes from the store what the first process has put there, joins the trainings,
and waits in between.
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
    """A store into which another process puts what is missing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.leader = os.getppid()

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Return the folder of the entry `key`, once it is there; `make` is not called.

        Raises:
            CompressError: the process that would have made it has ended.
        """
        while not self.has(key):
            if os.getppid() != self.leader:
                raise CompressError(f"the process that was making {what} has ended; run the recipe again to resume")
            time.sleep(0.2)
        return self.path(key), True


def is_follower(recipe: Recipe) -> bool:
    """Return whether another process runs the recipe, and this one only joins its trainings."""
    several = recipe.trainer.several_processes
    return several and any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def follow(plan: Plan, store: WaitingStore) -> None:
    """Join every training of the plan that the store does not hold yet."""
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
