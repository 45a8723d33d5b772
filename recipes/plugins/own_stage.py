"""A kind of stage of your own: `{id: rounded, kind: round-weights, from: distilled, bits: 8}`.

compress-model run recipe.yaml --plugin own_stage.py
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.plugins import stage
from compress.recipe.base import Identifier
from compress.recipe.stage import NETWORK
from compress.stages.costs import Cost, CostModel
from compress.stages.kind import MODEL_PACKAGES, StageKind
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.context import StageContext


@stage
class RoundWeights(StageKind):
    """Weights of convolutions and linears rounded to fewer mantissa bits, so that their file compresses better."""

    kind: Literal["round-weights"]
    from_: Identifier = Field(alias="from")
    bits: int = Field(8, ge=1, le=23, description="mantissa bits that are kept, of 23")

    maker: ClassVar[str] = f"{__name__}:make_rounded"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK})
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "weights rounded"

    def progress(self) -> str:
        return f"rounding the weights of {self.from_}"

    def packages(self) -> tuple[str, ...]:
        return MODEL_PACKAGES

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.evaluation(planned)


def make_rounded(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Round the weights of the parent's network, and store it. Torch is imported here: recipes load without it."""
    import torch
    from torch import nn

    from compress.results import Ledger
    from compress.stages.evaluation import store_network

    assert isinstance(planned.stage, RoundWeights) and planned.parent
    network = context.parent_network(planned.parent)
    scale = 2.0**planned.stage.bits
    for module in network.model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            mantissa, exponent = torch.frexp(module.weight.data)
            module.weight.data = torch.ldexp((mantissa * scale).round() / scale, exponent)
    ledger = Ledger.start(context.metrics(planned.parent).training)
    store_network(context, planned.id, folder, network, ledger)
