"""The `export` stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compress.deployment.export import Target
from compress.deployment.runtimes import cannot_be_sent, find_runtime, missing
from compress.deployment.triton import BACKENDS, check_labels
from compress.recipe.base import Fraction, Identifier
from compress.recipe.precision_name import INT8, Precisions
from compress.recipe.quantizer_name import AUTO as QUANTIZER_AUTO
from compress.recipe.runtime_name import AUTO, Runtimes
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, QUANTIZED, SPARSE, TEACHER
from compress.registry import RUNTIMES, quantizer
from compress.stages.kind import StageKind
from compress.stages.model import is_onnx_network
from compress.stages.planned import PlannedStage, Planner
from compress.stages.quantize import QuantizeStage
from compress.stages.runtime_packages import runtime_packages
from compress.utils.errors import CompressError
from compress.utils.messages import join_words
from compress.utils.system import processor

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.stages.costs import Cost, CostModel

REVISION = 6  # raised when exported files of the same network, or what is recorded of them, change
IR_OF_OPSET = {17: 8, 18: 8, 19: 9, 20: 9}
"""Oldest IR version by opset (onnx.helper.OP_SET_ID_VERSION_MAP)."""


class ExportStage(StageKind):
    """Export of variants to deployable files, one per runtime."""

    kind: Literal["export"]
    from_: list[Identifier] = Field(alias="from", min_length=1, description="ids of the stages to export")
    runtimes: Runtimes = Field(
        ["onnxruntime", "openvino"],
        min_length=1,
        description="auto: all installed ones that support the variant, the fastest within `auto_loss` selected",
    )
    auto_loss: Fraction = Field(
        0.005, description="accuracy loss on validation against PyTorch that `runtimes: auto` accepts"
    )
    precision: Precisions | None = Field(
        None,
        min_length=1,
        description="fp32, fp16, bf16, or a list: a file in each for every float variant and runtime; quantized "
        "variants keep theirs. Default: fp32, and fp16 for Core ML",
    )
    opset: int | None = Field(
        None,
        ge=17,
        le=20,
        description="opset of ONNX files; default: 20, which ONNX Runtime 1.17 and TensorRT 10 read, or that of a "
        "network that is an ONNX file; 17 for TensorRT 8.5 and 8.6 (JetPack 5 and 6.0) and older ONNX Runtimes",
    )
    ir_version: int | None = Field(
        None, ge=8, le=10, description="IR version of ONNX files; default: the oldest that has the opset"
    )
    integer_io: bool = Field(
        False,
        description="INT8 files for LiteRT take and return integers too, as microcontrollers and Edge TPUs need",
    )
    triton: bool = Field(
        False, description="also write a Triton Inference Server model per variant, with response cache"
    )

    maker: ClassVar[str] = "compress.stages.export.make:make_export"
    starts_from: ClassVar[frozenset[str]] = frozenset({TEACHER, NETWORK, SPARSE, QUANTIZED})
    starts_from_many: ClassVar[bool] = True
    overhead: ClassVar[float] = 15.0

    @property
    def auto(self) -> bool:
        """Whether to export to all installed runtimes."""
        return self.runtimes == [AUTO]

    @property
    def allowed_loss(self) -> float | None:
        return self.auto_loss if self.auto else None

    def progress(self) -> str:
        return "exporting"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if self.triton and not self.auto and not set(BACKENDS) & set(self.runtimes):
            yield "triton", f"Triton runs {join_words(BACKENDS)} files; add one to `runtimes`, or remove `triton`"
        quantized = [other for other in recipe.stages if isinstance(other, QuantizeStage) and other.id in self.from_]
        yield from self._opset_problem()
        if self.integer_io and not (quantized and (self.auto or "litert" in self.runtimes)):
            yield "integer_io", "is for quantized variants in litert files; remove it, or add both"
        yield from self._ir_problem()
        yield from self._precision_problems(recipe)
        for runtime in () if self.auto else self.runtimes:
            methods_taken = find_runtime(runtime).quantizers
            refused = [other for other in quantized if other.method_for(recipe, methods_taken) is None]
            if explicit := [other for other in refused if other.method != QUANTIZER_AUTO or not methods_taken]:
                names = join_words([other.id for other in explicit], "and")
                methods = join_words(sorted({other.method for other in explicit}))
                what = f"networks quantized by {methods}" if methods_taken else "quantized networks"
                yield "runtimes", f"{runtime} does not support {what}; move {names} to another export stage"
            for other in (other for other in refused if other not in explicit and other.own_method(recipe)):
                yield "runtimes", _no_method(runtime, methods_taken, other)
            target = find_runtime(runtime).target
            others = [other.id for other in quantized if other not in refused and other.target != target]
            if target and others:
                names = join_words(others, "and")
                supported = f"{runtime} supports quantized networks of `target: {target}` only"
                yield "runtimes", f"{supported}; set it in {names}"

    def _opset_problem(self) -> Iterator[tuple[str, str]]:
        if self.opset and not self.auto and not any(find_runtime(name).from_onnx for name in self.runtimes):
            able = join_words(name for name in RUNTIMES if find_runtime(name).from_onnx)
            yield "opset", f"none of these runtimes is given an ONNX file; remove it, or add one of {able}"

    def _ir_problem(self) -> Iterator[tuple[str, str]]:
        if self.ir_version is None:
            return
        if not self.auto and not any(find_runtime(name).from_onnx for name in self.runtimes):
            yield "ir_version", "none of these runtimes is given an ONNX file; remove it"
        elif self.opset and self.ir_version < IR_OF_OPSET[self.opset]:
            newest = max(opset for opset, version in IR_OF_OPSET.items() if version <= self.ir_version)
            yield "ir_version", f"opset {self.opset} needs {IR_OF_OPSET[self.opset]}; set it, or `opset: {newest}`"

    def _precision_problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        floats = [name for name in self.from_ if not _is_quantized(recipe, name)]
        if self.precision is None:
            return
        if INT8 in self.precision:
            base = (floats or self.from_)[0]
            stage = f"{{id: {base}-int8, kind: quantize, from: {base}}}"
            yield "precision", f"int8 needs calibration: add {stage}, and export it without a `precision`"
        if not floats:
            names = join_words(self.from_, "and")
            yield (
                "precision",
                f"{names} {'are' if self.from_[1:] else 'is'} quantized and not exported in another; remove it",
            )
        for runtime in () if self.auto else self.runtimes:
            able = find_runtime(runtime).precisions
            if lacking := [each for each in self.precision if each not in (*able, INT8)]:
                yield (
                    "precision",
                    f"{runtime} files are {join_words(able)}, not {join_words(lacking)}; use another stage",
                )

    def targets(self, variant: StageKind, runtimes: Sequence[str]) -> list[Target]:
        """Return the files to write of a variant for some runtimes: all in one precision, then all in the next."""
        if self.precision is None or variant.is_quantized:
            return [Target(name) for name in runtimes]
        return [
            Target(name, precision)
            for precision in self.precision
            for name in runtimes
            if precision in find_runtime(name).precisions
        ]

    def onnx_problem(self) -> str | None:
        named = [] if self.auto else self.runtimes
        refused = [name for name in named if not find_runtime(name).from_onnx]
        able = join_words(name for name in RUNTIMES if find_runtime(name).from_onnx)
        names = join_words(refused, "and")
        return f"{names} cannot be built from an ONNX file; export it to {able}" if refused else None

    def plan(self, planner: Planner) -> list[PlannedStage]:
        return [self._plan_one(planner, planner.planned[variant]) for variant in self.from_]

    def _plan_one(self, planner: Planner, variant: PlannedStage) -> PlannedStage:
        runtimes = self._runtimes_for(variant.stage, planner.recipe)
        settings = {"runtimes": runtimes, "triton": self.triton, "files": REVISION}
        if self.opset:
            settings["opset"] = self.opset
        if self.integer_io:
            settings["integer_io"] = True
        if self.ir_version:
            settings["ir_version"] = self.ir_version
        targets = self.targets(variant.stage, runtimes)
        folders = {name: [target.folder for target in targets if target.runtime == name] for name in runtimes}
        if folders != {name: [Target(name).folder] for name in runtimes}:
            settings["folders"] = folders
        if self.auto:
            settings["auto"] = True
        if not all(find_runtime(name).portable for name in runtimes):
            settings["processor"] = processor()
        packages = runtime_packages(runtimes)
        if methods := methods_by_runtime(variant.stage, planner.recipe, runtimes):
            settings["methods"] = methods
            used = (package for method in methods.values() for package in quantizer(method).packages)
            packages = tuple(dict.fromkeys((*packages, *used)))
        key = planner.key(settings, packages, [variant.key])
        names = tuple(dict.fromkeys(target.runtime for target in targets))
        files = tuple(target.name for target in targets)
        return PlannedStage(f"{self.id}/{variant.id}", self, key, variant.id, runtimes=names, files=files)

    def _runtimes_for(self, variant: StageKind, recipe: Recipe) -> list[str]:
        """Return the runtimes of the recipe; for `auto`, the installed ones that support the variant."""
        if not self.auto:
            return self.runtimes
        supported = [name for name in RUNTIMES if not find_runtime(name).runs_on]
        if isinstance(variant, QuantizeStage):
            methods = {name: variant.method_for(recipe, find_runtime(name).quantizers) for name in supported}
            supported = [name for name in supported if (own := methods[name]) and not quantizer(own).missing()]
        if is_onnx_network(recipe, variant.id):
            supported = [name for name in supported if find_runtime(name).from_onnx]
        return [name for name in supported if not missing(name)]

    def runtimes_used(self) -> tuple[str, ...]:
        return () if self.auto else tuple(self.runtimes)

    def sends_files(self) -> bool:
        return self.auto or any(cannot_be_sent(name) is None for name in self.runtimes)

    def require(self) -> None:
        if self.triton and self.auto and all(map(missing, BACKENDS)):
            install = find_runtime(BACKENDS[0]).install
            raise CompressError(f"`triton` needs {join_words(BACKENDS)}, and none is installed: {install}")

    def check_data(self, data: ImageData) -> None:
        if self.triton:
            check_labels(data.classes)

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        assert planned.parent
        variant = costs.plan.stage(planned.parent)
        targets = self.targets(variant.stage, planned.runtimes)
        evaluated = sum(not find_runtime(target.runtime).runs_on for target in targets)
        cost = costs.evaluation(variant, evaluated)
        for _ in set(methods_by_runtime(variant.stage, costs.plan.recipe, planned.runtimes).values()):
            assert isinstance(variant.stage, QuantizeStage)
            cost += costs.inference(variant, variant.stage.calibration_images)
        return cost


def methods_by_runtime(variant: StageKind, recipe: Recipe, runtimes: Sequence[str]) -> dict[str, str]:
    """Return the quantization method of each runtime whose file is not made from the variant's own network."""
    if not isinstance(variant, QuantizeStage):
        return {}
    own = variant.own_method(recipe)
    chosen = {name: variant.method_for(recipe, find_runtime(name).quantizers) for name in runtimes}
    return {name: method for name, method in chosen.items() if method and method != own}


def _no_method(runtime: str, methods: Sequence[str], variant: QuantizeStage) -> str:
    """Say which settings of a variant the methods of a runtime do not have; without any, it cannot read the network."""
    move = f"move {variant.id} to another export stage"
    unmet = variant.demands.unmet(quantizer(methods[0]))
    if not unmet:
        return f"{runtime} cannot be built from an ONNX file; {move}"
    keys, it = join_words((f"`{key}`" for key in unmet), "and"), "it" if len(unmet) == 1 else "them"
    return f"INT8 for {runtime} ({join_words(methods)}) does not support {keys} of {variant.id}; remove {it}, or {move}"


def _is_quantized(recipe: Recipe, identifier: str) -> bool:
    """Whether a stage of the recipe makes a quantized variant."""
    stage = next((stage for stage in recipe.stages if stage.id == identifier), None)
    return isinstance(stage, StageKind) and stage.is_quantized
