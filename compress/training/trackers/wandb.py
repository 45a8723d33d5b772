"""Weights & Biases. `WANDB_MODE=offline` writes to `logs/wandb`, which `wandb sync` uploads later."""

from __future__ import annotations

import wandb
from lightning.pytorch.loggers import WandbLogger

from compress.training.trackers.tracker import TrackedStage, Tracker
from compress.utils.console import say

FINISH_TIMEOUT_S = 120.0  # for uploads at the end of a stage's run; what is left lies in `logs/wandb`


class Wandb(Tracker):
    """Runs of the recipe's project, grouped by the run."""

    def open(self, stage: TrackedStage) -> WandbLogger:
        # Lightning would take any run in progress for its own; stages stay open until their results are there.
        self.run = wandb.init(
            project=stage.recipe,
            group=stage.run,
            name=stage.name,
            dir=stage.folder,
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",  # the console of a run is not one of its stages'
                login_timeout=60,
                finish_timeout=FINISH_TIMEOUT_S,
                finish_timeout_raises=True,
            ),
        )
        if not self.run.offline:
            say(f"  wandb: {self.run.url}")
        self.run.define_metric("*", step_metric="trainer/global_step")
        return WandbLogger(experiment=self.run)

    def close(self, success: bool) -> None:
        super().close(success)
        self.run.finish(exit_code=0 if success else 1)
