"""Make one stage of a plan in this process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compress.measurement.threads import torch_threads
from compress.pipeline.distributed import NONE_THERE, lost_follower
from compress.pipeline.failures import needs
from compress.pipeline.job import Job
from compress.stages.planned import PlannedStage
from compress.store.leases import POLL_S
from compress.store.workers import reporting
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from compress.stages.context import StageContext


def make_one(job: Job, unit: str) -> None:
    """Make one stage, or wait for the process that makes it; a `CompressError` if that fails."""
    planned, context = job.plan.stage(unit), job.context()
    for name in needs(planned):
        if not job.store.has(job.plan.stage(name).key):
            raise CompressError(f"stage {unit}: needs {name}, which the store does not have")
    while offer_stage(context, planned, lambda: job.log.write("start", unit=unit, key=planned.key)) is None:
        time.sleep(POLL_S)


def offer_stage(context: StageContext, planned: PlannedStage, begin: Callable[[], None]) -> bool | None:
    """Make a stage as `Store.offer` does; `begin` is called before."""
    import torch

    make = planned.stage.load_maker()

    def fill(folder: Path) -> None:
        begin()
        with reporting(context.store.job(), planned.id, planned.key):
            make(context, planned, folder)

    try:
        with torch_threads(torch.get_num_threads()):  # a library or a plugin may change it
            return context.store.offer(planned.key, planned.id, fill)
    except CompressError as error:
        raise type(error)(f"stage {planned.id}: {error}") from error
    except RuntimeError as error:
        if not lost_follower(error):
            raise
        raise CompressError(f"stage {planned.id}: another process of its training has ended; {NONE_THERE}") from error
