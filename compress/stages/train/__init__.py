"""The `train` stage."""

from __future__ import annotations

from typing import ClassVar, Literal

from compress.stages.kind import NetworkStage


class TrainStage(NetworkStage):
    """Supervised training on the labelled images: the baseline."""

    kind: Literal["train"]

    maker: ClassVar[str] = "compress.stages.train.make:make_trained"

    def progress(self) -> str:
        return "training on labels"
