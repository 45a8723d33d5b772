"""CSV files: `logs/STAGE/csv/metrics.csv`, and settings in `hparams.yaml` beside it."""

from __future__ import annotations

from lightning.pytorch.loggers import CSVLogger

from compress.training.trackers.tracker import TrackedStage, Tracker


class Csv(Tracker):
    """Metrics as CSV."""

    def open(self, stage: TrackedStage) -> CSVLogger:
        return CSVLogger(stage.folder, name=stage.stage, version="csv")
