"""The `prune` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr

from compress.deployment.runtimes import find_runtime
from compress.recipe.base import Identifier, Share
from compress.recipe.channels import Channels
from compress.recipe.fit import Distillation, Fit
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, PRUNED
from compress.stages.kind import FIT_PACKAGES, StageKind
from compress.stages.planned import PlannedStage, machine
from compress.stages.runtime_packages import runtime_packages

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel

TARGETS = ("target_macs", "target_params", "target_latency")
LAYERS = 15  # layers that can be pruned alone in a network such as ResNet18
TRIALS, TRIAL_SECONDS = 8, 10.0
"""Networks timed in a latency search, and the time for each: to export, load and benchmark it."""
TIMING_SLACK = 1.15
"""How far a dry run, which times few rounds, may miss the target: their noise is not to refuse a stage."""


class PruneStage(StageKind, Channels):
    """Structured channel pruning, then repair: by distillation where the network has a teacher, else on labels."""

    kind: Literal["prune"]
    from_: Identifier = Field(alias="from", description="id of the stage to prune")
    analyse: list[Share] = Field([], description="sensitivity analysis: pruning ratios to try on each layer alone")
    rounds: int = Field(1, ge=1, le=100, description="steps of iterative pruning, each followed by repair")
    repair: Distillation = Field(Distillation(epochs=5, lr=0.02), description="training after pruning")

    # whether any network within the target will do, as in a dry run: each that is timed has to be exported
    _takes_any: bool = PrivateAttr(False)

    maker: ClassVar[str] = "compress.stages.prune.make:make_pruned"
    makes: ClassVar[frozenset[str]] = frozenset({NETWORK, PRUNED})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK})
    fit_label: ClassVar[str] = "repair"
    pruner: ClassVar[str] = (
        "whole channels by norm, scale, Taylor or chance, to a share of cost or latency (arXiv 2301.12900)"
    )
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "pruned"
    remedy: ClassVar[str] = "a higher `target_macs` or a longer `repair`"
    tag: ClassVar[str | None] = "pruning"

    def progress(self) -> str:
        return f"pruning {self.from_}"

    @property
    def takes_any(self) -> bool:
        """Whether any network within the target will do, not the widest one alone."""
        return self._takes_any

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        yield "repair", self.repair

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        targets = [name for name in TARGETS if getattr(self, name) is not None]
        if not targets:
            yield "target_macs", "no target; set the fraction of MACs to keep, or `target_params` or `target_latency`"
        for name in targets[1:]:
            yield name, f"excludes `{targets[0]}`; keep one target"
        if self.target_latency and (where := find_runtime(self.target_latency.runtime).runs_on):
            yield "target_latency", f"{self.target_latency.runtime} files run {where}, not here; choose another runtime"
        if self.ranking == "sensitivity" and not self.analyse:
            yield "analyse", "needed by `ranking: sensitivity`; set pruning ratios to try, e.g. [0.25, 0.5, 0.75]"
        if self.rounds > 1 and recipe.trainer.several_processes:
            yield "rounds", "several rounds are supported on one device only; set `trainer.devices: 1`"

    def for_dry_run(self) -> Self:
        changes: dict[str, object] = {"rounds": 1, "analyse": [max(self.analyse)] if self.analyse else []}
        if self.target_latency:
            share = min(self.target_latency.share * TIMING_SLACK, 0.99)
            changes["target_latency"] = self.target_latency.model_copy(update={"share": share, "rounds": 5})
        small = super().for_dry_run().model_copy(update=changes)
        small._takes_any = self.target_latency is not None
        return small

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = super().key_settings(recipe)
        if self.target_latency:
            runtime = find_runtime(self.target_latency.runtime)
            made_for = {} if runtime.portable else {"compiled_for": runtime.compiled_for()}
            return {**settings, "machine": {**machine(recipe, self.runtimes_used()), **made_for}}
        return {**settings, "counts": "nearest"}  # to the target; older versions stopped at a common ratio

    def packages(self) -> tuple[str, ...]:
        timed = runtime_packages(self.runtimes_used()) if self.target_latency else ()
        return (*FIT_PACKAGES, "torch-pruning", *timed)

    def learns_from_ancestor(self) -> bool:
        return True

    def runtimes_used(self) -> tuple[str, ...]:
        return (self.target_latency.runtime,) if self.target_latency else ()

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        latency = self.target_latency.share if self.target_latency else 1.0
        repair = costs.fit(planned, self.repair, self.rounds * (self.target_macs or self.target_params or latency))
        analysed = self.rounds * len(self.analyse) * LAYERS * len(costs.data.validation.images)
        trials = self.rounds * TRIALS if self.target_latency else 0
        return repair + costs.inference(planned, analysed) + (0, trials * TRIAL_SECONDS)
