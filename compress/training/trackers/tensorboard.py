"""TensorBoard: event files in `logs/STAGE/tensorboard`."""

from __future__ import annotations

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger

from compress.training.trackers.tracker import TrackedStage, Tracker


class TensorBoard(Tracker):
    """Event files; results are in the HPARAMS tab too, beside the settings."""

    logger: TensorBoardLogger

    def open(self, stage: TrackedStage) -> TensorBoardLogger:
        return TensorBoardLogger(stage.folder, name=stage.stage, version="tensorboard", default_hp_metric=False)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        self.logger.log_hyperparams(dict(self.stage.settings), dict(metrics), self.step)
