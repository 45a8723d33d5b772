"""The `export` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.deployment.runtimes import find_runtime, missing
from compress.recipe.base import Fraction, Identifier
from compress.recipe.runtime_name import AUTO, Runtimes
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, QUANTIZED, SPARSE, TEACHER
from compress.registry import RUNTIMES
from compress.stages.kind import StageKind
from compress.stages.planned import PlannedStage, Planner
from compress.stages.quantize import QuantizeStage
from compress.stages.runtime_packages import runtime_packages
from compress.utils.messages import listed
from compress.utils.system import processor

if TYPE_CHECKING:
    from compress.stages.costs import Cost, CostModel

REVISION = 3
"""Raised when an export writes other files of the same network."""
SECONDS = 15.0
"""Of the files of a variant, which hardly depend on the network."""


class ExportStage(StageKind):
    """Deployable files of variants."""

    kind: Literal["export"]
    from_: list[Identifier] = Field(alias="from", min_length=1)
    runtimes: Runtimes = Field(
        ["onnxruntime", "openvino"],
        min_length=1,
        description="auto: all that are here and take the variant; the fastest that holds its accuracy is named",
    )
    auto_loss: Fraction = Field(
        0.005, description="of `runtimes: auto`: accuracy on validation that a file may lose against PyTorch"
    )
    triton: bool = Field(
        False, description="also write each variant as a model of a Triton Inference Server, with its response cache on"
    )

    maker: ClassVar[str] = "compress.stages.export.make:make_export"
    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK, SPARSE, QUANTIZED})
    starts_from_many: ClassVar[bool] = True

    @property
    def auto(self) -> bool:
        """Whether the runtimes are all that are installed here."""
        return self.runtimes == [AUTO]

    @property
    def allowed_loss(self) -> float | None:
        return self.auto_loss if self.auto else None

    def progress(self) -> str:
        return "writing its files"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        quantized = [other for other in recipe.stages if isinstance(other, QuantizeStage) and other.id in self.from_]
        for runtime in () if self.auto else self.runtimes:
            taken = find_runtime(runtime).quantizers
            refused = [other for other in quantized if other.method not in taken]
            if refused:
                names = listed([other.id for other in refused], "and")
                what = f"networks quantized by {listed({o.method for o in refused})}" if taken else "quantized networks"
                yield "runtimes", f"{runtime} takes no {what}: give {names} an export stage of its own"
            target = find_runtime(runtime).target
            others = [other.id for other in quantized if other not in refused and other.target != target]
            if target and others:
                names = listed(others, "and")
                yield "runtimes", f"{runtime} takes quantized networks of `target: {target}` only: set it in {names}"

    def plan(self, planner: Planner) -> list[PlannedStage]:
        return [self._plan_one(planner, planner.planned[variant]) for variant in self.from_]

    def _plan_one(self, planner: Planner, variant: PlannedStage) -> PlannedStage:
        runtimes = self._runtimes_for(variant.stage)
        settings = {"runtimes": runtimes, "triton": self.triton, "files": REVISION}
        if self.auto:
            settings["auto"] = True
        if not all(find_runtime(name).portable for name in runtimes):
            settings["processor"] = processor()
        key = planner.key(settings, runtime_packages(runtimes), [variant.key])
        return PlannedStage(f"{self.id}/{variant.id}", self, key, variant.id, runtimes=tuple(runtimes))

    def _runtimes_for(self, variant: StageKind) -> list[str]:
        """Those that the recipe names, or all that are installed and take the variant, in the registry's order."""
        if not self.auto:
            return self.runtimes
        method = variant.method if isinstance(variant, QuantizeStage) else None
        here = [name for name in RUNTIMES if not find_runtime(name).runs_on]
        taken = [name for name in here if method is None or method in find_runtime(name).quantizers]
        return [name for name in taken if not missing(name)]

    def runtimes_used(self) -> tuple[str, ...]:
        return () if self.auto else tuple(self.runtimes)

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        return costs.fixed(SECONDS)
