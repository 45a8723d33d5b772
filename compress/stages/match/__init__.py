"""The `match` stage, the control of a variant's training compute."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, PRUNED, QUANTIZED, SPARSE
from compress.stages.kind import StageKind, kind_of
from compress.stages.planned import PlannedStage, Planner

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class MatchStage(StageKind):
    """Control of a variant: a `train` stage again, for as much compute as making the variant took.

    Epochs are rounded up, and neither the control's own validation nor its test is charged to them: the control never
    gets less. `worth.compute_matched` adds these stages for all variants.
    """

    kind: Literal["match"]
    from_: Identifier = Field(alias="from", description="id of the variant whose training compute is matched")
    baseline: Identifier = Field(description="id of the train stage to repeat")
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of initial weights and batch order; default: the baseline's"
    )

    maker: ClassVar[str] = "compress.stages.match.make:make_matched"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK, PRUNED, SPARSE, QUANTIZED})
    control: ClassVar[bool] = True
    lineage: ClassVar[str] = "trained on labels for as much compute"

    def progress(self) -> str:
        return f"training {self.baseline} for as much compute as {self.from_}"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        kinds = {stage.id: stage.kind for stage in recipe.stages}
        trained = {stage.id for stage in recipe.stages if any(stage.fits())}
        if self.baseline not in kinds:
            yield "baseline", f"unknown stage {self.baseline!r}; name a train stage"
        elif kinds[self.baseline] != "train":
            yield "baseline", f"{self.baseline!r} is of kind {kinds[self.baseline]}; name a train stage"
        elif self.baseline not in trained:
            yield "baseline", f"{self.baseline!r} is a probe, which cannot be trained for longer; name another stage"

    def plan(self, planner: Planner) -> list[PlannedStage]:
        parent = planner.planned[self.from_]
        key = planner.key(self.key_settings(planner.recipe), self.packages(), [parent.key])
        return [PlannedStage(self.id, self, key, parent.id)]  # it learns from no teacher, though its parent may

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        repeated = next(stage for stage in recipe.stages if stage.id == self.baseline)
        settings = kind_of(repeated).key_settings(recipe) | {"kind": self.kind}
        del settings["epochs"]
        settings["patience"] = None
        return settings if self.seed is None else settings | {"own_seed": self.seed}

    def network_from(self) -> str:
        return self.baseline

    def repeats(self) -> str:
        return self.baseline

    def joined_by_devices(self) -> bool:
        return True  # its epochs are known once its parent is made

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        spent = costs.lineage(self.from_, costs.plan.stage(self.from_).teacher, repeated=False)
        return costs.training(planned, spent.macs)
