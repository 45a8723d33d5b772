"""What the other processes of a fit on several devices do: the same stage, beside the process that writes.

Lightning starts the recipe's command again for each further device (or a cluster starts it everywhere at once). Such a
follower makes and writes nothing: it takes from the store what the first process has put there, joins the fits, and
waits in between.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from compress.pipeline.plan import Plan, PlannedStage
from compress.recipe.fit import Fit
from compress.recipe.schema import DistillStage, Recipe, ShrinkStage, Trainer, TrainStage
from compress.store.store import Store
from compress.utils.console import console

RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")


class WaitingStore(Store):
    """A store into which another process puts what is missing."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.leader = os.getppid()

    def get(self, key: str, what: str, make: Callable[[Path], None]) -> tuple[Path, bool]:
        """Folder of the entry `key`, once it is there; `make` is not called."""
        while not self.has(key):
            if os.getppid() != self.leader:
                raise SystemExit(1)  # the process that would have made it is gone
            time.sleep(0.2)
        return self.path(key), True


def several(trainer: Trainer) -> bool:
    """Whether a fit may have more than one process."""
    return trainer.devices != 1 or trainer.num_nodes > 1


def is_follower(recipe: Recipe) -> bool:
    """Whether another process runs the recipe, and this one only joins its fits."""
    return several(recipe.trainer) and any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def follow(plan: Plan, store: WaitingStore) -> None:
    """Join every fit of the plan that the store does not hold yet."""
    from compress.stages.context import StageContext
    from compress.stages.makers import MAKERS
    from compress.training.fit import FollowerFinished

    console.quiet = True
    for unit in plan.variants:
        if _epochs(unit) and not store.has(unit.key):
            for name in (unit.parent, unit.teacher):
                if name:
                    store.get(plan.unit(name).key, name, lambda folder: None)
            try:
                MAKERS[unit.stage.kind](StageContext(plan, store), unit, store.root / "partial" / unit.key)
            except FollowerFinished:
                continue


def _epochs(unit: PlannedStage) -> int:
    stage = unit.stage
    if isinstance(stage, ShrinkStage):
        return 1  # or more: the fit says it
    own = stage if isinstance(stage, TrainStage | DistillStage) else None
    settings: Fit | None = getattr(stage, "repair", own)
    return settings.epochs if settings else 0
