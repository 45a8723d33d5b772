"""The `sparsify` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compress.recipe.base import Identifier, Share
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, SPARSE
from compress.stages.kind import StageKind
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class SparsifyStage(StageKind):
    """Single weights set to zero, the smallest first, and kept there through the repair; the shapes stay."""

    kind: Literal["sparsify"]
    from_: Identifier = Field(alias="from")
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="anywhere in the network, or two of every four input channels"
    )
    sparsity: Share | None = Field(
        None, description="share of the weights that become zero; of 2:4 it is a half, of unstructured 0.8 without it"
    )
    until: float = Field(
        0.7, gt=0, le=1, description="share of the repair's steps after which unstructured sparsity is whole"
    )
    keep: list[str] = Field([], description="layers that keep their weights, by name; * stands for any characters")
    repair: Distillation = Distillation(epochs=5, lr=0.02)

    maker: ClassVar[str] = "compress.stages.sparsify.make:make_sparse"
    makes: ClassVar[frozenset[str]] = frozenset({SPARSE})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK})
    fit_label: ClassVar[str] = "repair"
    pruner: ClassVar[bool] = True
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "weights set to zero"
    tag: ClassVar[str | None] = "sparsity"

    @property
    def share(self) -> float:
        """Share of the weights that become zero."""
        return 0.5 if self.pattern == "2:4" else 0.8 if self.sparsity is None else self.sparsity

    def progress(self) -> str:
        return f"setting weights of {self.from_} to zero"

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        yield "repair", self.repair

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if self.pattern == "2:4" and self.sparsity is not None:
            yield "sparsity", "`pattern: 2:4` makes a half of the weights zero; leave `sparsity` out"
        if self.pattern == "unstructured" and (self.repair.select_on != "last" or self.repair.patience):
            yield "repair", "sparsity rises through the epochs: the last one is kept, not a better one before it"

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        until = self.until if self.pattern == "unstructured" else None
        return {**super().key_settings(recipe), "sparsity": self.share, "until": until}

    def learns_from_ancestor(self) -> bool:
        return True

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.fit(planned, self.repair, masked=True)
