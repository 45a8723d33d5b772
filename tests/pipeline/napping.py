"""A plugin with a stage that sleeps and writes a file: units of known length for tests and campaigns of workers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.plugins import stage
from compress.recipe.base import Identifier
from compress.recipe.stage import NETWORK, TEACHER
from compress.stages.kind import Maker, StageKind
from compress.stages.planned import PlannedStage
from compress.utils.errors import CompressError

if TYPE_CHECKING:
    from compress.stages.context import StageContext
    from compress.stages.costs import Cost, CostModel


@stage
class NapStage(StageKind):
    """Sleep beside a network."""

    kind: Literal["nap"]
    from_: Identifier = Field(alias="from", description="id of any stage")
    seconds: float = Field(0.1, description="how long")
    fails: bool = Field(False, description="whether it fails")
    crashes: bool = Field(False, description="whether it fails as no stage should")

    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK})

    def packages(self) -> tuple[str, ...]:
        return ()

    def load_maker(self) -> Maker:
        return make

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        raise NotImplementedError


def make(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Sleep, then write a file that depends on the settings alone."""
    assert isinstance(planned.stage, NapStage)
    if planned.stage.fails:
        raise CompressError("it always fails")
    if planned.stage.crashes:
        raise ValueError("a bug")
    (folder / "half.txt").write_text(f"{planned.id} half\n")
    time.sleep(planned.stage.seconds)
    (folder / "half.txt").unlink()
    (folder / "nap.txt").write_text(f"{planned.id} {planned.stage.seconds}\n" * 1000)
