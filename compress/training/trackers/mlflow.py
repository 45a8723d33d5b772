"""MLflow. The tracking server is that of `MLFLOW_TRACKING_URI`; without it, `logs/mlflow.db` or `logs/mlruns`."""

from __future__ import annotations

import importlib.util
import logging
import os

from lightning.pytorch.loggers import MLFlowLogger

from compress.training.trackers.tracker import TrackedStage, Tracker


class MLflow(Tracker):
    """Runs of the recipe's experiment, with the run as the tag `compress.run`."""

    def open(self, stage: TrackedStage) -> MLFlowLogger:
        for name in ("mlflow", "alembic", "lightning.pytorch"):  # each reports the tables and experiments it creates
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = os.environ.get("MLFLOW_TRACKING_URI") or _local(stage)
        if uri.startswith("file:") or "://" not in uri:  # MLflow 3.14 and later refuse folders unless told not to
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        return MLFlowLogger(stage.recipe, run_name=stage.name, tracking_uri=uri, tags={"compress.run": stage.run})


def _local(stage: TrackedStage) -> str:
    folder = stage.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if importlib.util.find_spec("sqlalchemy"):  # not with mlflow-skinny alone
        return f"sqlite:///{folder / 'mlflow.db'}"
    return (folder / "mlruns").as_uri()
