"""The `train` stage."""

from __future__ import annotations

from typing import Literal

from compress.stages.kind import NetworkStage


class TrainStage(NetworkStage):
    """Supervised training on the labelled images: the baseline."""

    kind: Literal["train"]

    def progress(self) -> str:
        return "training on labels"
