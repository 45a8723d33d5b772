"""The `shrink` stage, the control of a `prune` stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, PRUNED
from compress.stages.kind import FIT_PACKAGES, StageKind, kind_of
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class ShrinkStage(StageKind):
    """Control of a prune stage: a narrow network trained from scratch for the same training compute.

    It has the MACs of the pruned network, with all layers narrowed by the same factor. It is trained with the settings
    of the dense network, for as many epochs as the compute of training and repair pays for.
    """

    kind: Literal["shrink"]
    from_: Identifier = Field(alias="from", description="id of the prune stage")
    seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of initial weights and batch order; default: the recipe's"
    )

    maker: ClassVar[str] = "compress.stages.shrink.make:make_shrunk"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from: ClassVar[frozenset[str]] = frozenset({PRUNED})
    pruner: ClassVar[str] = (
        "the control: the same network made narrow before training, for as much compute as prune took"
    )
    control: ClassVar[bool] = True
    random_weights: ClassVar[bool] = True
    lineage: ClassVar[str] = "trained from scratch at the same reduced width"
    remedy: ClassVar[str] = "more epochs"

    def progress(self) -> str:
        return f"training the control of {self.from_}"

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = {**super().key_settings(recipe), "counts": "nearest"}  # as of a prune stage
        # Once it stopped as early as what it is the control of, and its own seed may not have ordered the batches.
        patient = any(fit.patience for stage in recipe.stages for _, fit in kind_of(stage).fits())
        return settings | ({"trained": "whole"} if patient or self.seed is not None else {})

    def packages(self) -> tuple[str, ...]:
        return (*FIT_PACKAGES, "torch-pruning")

    def learns_from_ancestor(self) -> bool:
        return True

    def joined_by_devices(self) -> bool:
        return True  # its epochs are known once the pruned network is made

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        """Return the cost of the pruned network, from its first training on."""
        assert planned.parent
        return costs.lineage(planned.parent, planned.teacher)
