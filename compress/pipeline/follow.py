"""What the other processes of a fit on several devices do: the same stage, beside the process that writes.

Lightning starts the recipe's command again for each further device (or a cluster starts it everywhere at once). Such a
follower makes and writes nothing: it takes from the store what the first process has put there, joins the fits, and
waits in between.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from compress.pipeline.plan import Plan, Unit
from compress.pipeline.store import Store
from compress.progress import console

FITTED = ("train", "distill", "prune")
RANKS = ("LOCAL_RANK", "RANK", "SLURM_PROCID")


def is_follower() -> bool:
    """Whether another process runs the recipe, and this one only joins its fits."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def follow(plan: Plan, store: Store) -> None:
    """Join every fit of the plan that the store does not hold yet."""
    from compress.pipeline.stages import MAKERS
    from compress.pipeline.work import Work
    from compress.training.fit import Followed

    console.quiet = True
    leader = os.getppid()
    for unit in plan.variants:
        if unit.stage.kind in FITTED and not store.path(unit.key).exists():
            _await_inputs(plan, store, unit, leader)
            try:
                MAKERS[unit.stage.kind](Work(plan, store), unit, store.root / "partial" / unit.key)
            except Followed:
                continue


def _await_inputs(plan: Plan, store: Store, unit: Unit, leader: int) -> None:
    needed: list[Path] = [store.path(plan.unit(name).key) for name in (unit.parent, unit.teacher) if name]
    while not all(path.exists() for path in needed):
        if os.getppid() != leader:
            raise SystemExit(1)  # the process that would have made them is gone
        time.sleep(0.2)
