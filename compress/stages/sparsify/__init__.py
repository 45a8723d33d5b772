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
    """Unstructured or 2:4 pruning of single weights by magnitude; they stay zero through repair."""

    kind: Literal["sparsify"]
    from_: Identifier = Field(alias="from", description="id of the stage to sparsify")
    pattern: Literal["unstructured", "2:4"] = Field(
        "unstructured", description="2:4: zeros in two of every four input channels"
    )
    sparsity: Share | None = Field(None, description="fraction of weights set to zero; default: 0.8, or 0.5 for 2:4")
    until: float = Field(
        0.7, gt=0, le=1, description="fraction of repair steps over which unstructured sparsity increases"
    )
    keep: list[str] = Field([], description="layers to leave dense, by name; * is a wildcard")
    repair: Distillation = Field(Distillation(epochs=5, lr=0.02), description="training under the mask")

    maker: ClassVar[str] = "compress.stages.sparsify.make:make_sparse"
    makes: ClassVar[frozenset[str]] = frozenset({SPARSE})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK})
    fit_label: ClassVar[str] = "repair"
    pruner: ClassVar[str] = (
        "single weights to zero, anywhere (arXiv 1710.01878) or 2:4 (arXiv 2104.08378); the shapes stay"
    )
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "weights set to zero"
    remedy: ClassVar[str] = "a lower sparsity or longer training"
    tag: ClassVar[str | None] = "sparsity"

    @property
    def share(self) -> float:
        """Fraction of weights set to zero."""
        return 0.5 if self.pattern == "2:4" else 0.8 if self.sparsity is None else self.sparsity

    def progress(self) -> str:
        return f"sparsifying {self.from_}"

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        yield "repair", self.repair

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if self.pattern == "2:4" and self.sparsity is not None:
            yield "sparsity", "`pattern: 2:4` fixes sparsity at 0.5; remove `sparsity`"
        if self.pattern == "unstructured" and (self.repair.select_on != "last" or self.repair.patience):
            yield "repair", "only the last epoch has the full sparsity; remove `select_on` and `patience`"

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        until = self.until if self.pattern == "unstructured" else None
        return {**super().key_settings(recipe), "sparsity": self.share, "until": until}

    def learns_from_ancestor(self) -> bool:
        return True

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.fit(planned, self.repair, masked=True)
