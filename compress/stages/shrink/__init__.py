"""The `shrink` stage, the control of a `prune` stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier
from compress.recipe.stage import NETWORK, PRUNED
from compress.stages.kind import FIT_PACKAGES, StageKind
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class ShrinkStage(StageKind):
    """The control of a prune stage: its network made narrow before it was ever trained, for the same compute.

    As many MACs, every layer narrower by the same share, trained as the network that was pruned had been, for as many
    epochs as training and repair of the pruned one come to.
    """

    kind: Literal["shrink"]
    from_: Identifier = Field(alias="from", description="the prune stage")
    seed: int | None = Field(None, ge=0, lt=2**31, description="of first weights and order; without it, the recipe's")

    maker: ClassVar[str] = "compress.stages.shrink.make:make_shrunk"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from: ClassVar[frozenset[str]] = frozenset({PRUNED})
    pruner: ClassVar[bool] = True
    control: ClassVar[bool] = True
    lineage: ClassVar[str] = "trained from scratch at the same share of the width"

    def progress(self) -> str:
        return f"training the control of {self.from_}"

    def packages(self) -> tuple[str, ...]:
        return (*FIT_PACKAGES, "torch-pruning")

    def learns_from_ancestor(self) -> bool:
        return True

    def joined_by_devices(self) -> bool:
        return True  # how many epochs the pruned network's compute pays for is known once it is made

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        """As much as the pruned network took, from its first training on."""
        assert planned.parent
        return costs.lineage(planned.parent, planned.teacher)
