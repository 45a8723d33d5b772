"""The `train` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from compress.stages.kind import NetworkStage


class TrainStage(NetworkStage):
    """Supervised training on the labelled images: the baseline."""

    kind: Literal["train"]

    lineage: ClassVar[str] = "trained on labels"

    def progress(self) -> str:
        return "training on labels"
