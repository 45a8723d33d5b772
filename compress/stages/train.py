"""The `train` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from compress.recipe.fit import Fit
from compress.recipe.models import SHARD
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, TEACHER
from compress.registry import load_entry
from compress.stages.kind import Maker
from compress.stages.network import NetworkStage
from compress.stages.planned import PlannedStage

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel


class TrainStage(NetworkStage):
    """Supervised training on the labelled images: the baseline, or a teacher of this run."""

    kind: Literal["train"]

    makes: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK})
    shard: ClassVar[int] = SHARD
    lineage: ClassVar[str] = "trained on labels"
    probe_maker: ClassVar[str] = "compress.stages.probing:make_probed"

    @property
    def probed(self) -> bool:
        """Whether only its head is fitted, as a probe."""
        return self.student.head == "probe"

    def progress(self) -> str:
        return "fitting a probe on labels" if self.probed else "training on labels"

    def load_maker(self) -> Maker:
        return cast(Maker, load_entry(self.probe_maker)) if self.probed else super().load_maker()

    def embedding_id(self, planned: PlannedStage) -> dict[str, str]:
        return {"variant": planned.key}

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        if not self.probed:
            yield from super().fits()

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = super().key_settings(recipe)
        if self.probed:  # on images as they are
            del settings["images"]
        return settings

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from super().problems(recipe)
        if not self.probed:
            return
        if not self.starts_trained:
            yield "student", "`head: probe` keeps features, which are random here; set `pretrained` or `checkpoint`"
        for key in sorted(self.model_fields_set & Fit.model_fields.keys() - {"seed"}):
            yield key, "is for training, and `head: probe` trains nothing; remove it"

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        if self.probed:
            return costs.inference(planned, len(costs.data.train) + len(costs.data.validation))
        return super().cost(planned, costs)
