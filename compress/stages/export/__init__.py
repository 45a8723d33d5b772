"""The `export` stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from compress.deployment.classes import TEXT
from compress.deployment.export import Target
from compress.deployment.runtime import FileOptions
from compress.deployment.runtimes import cannot_be_sent, find_runtime, missing
from compress.deployment.triton import BACKENDS, check_labels
from compress.recipe.base import AccuracyLoss, Identifier
from compress.recipe.precision_name import Precisions
from compress.recipe.runtime_name import AUTO, Runtimes
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, QUANTIZED, SPARSE, TEACHER
from compress.registry import RUNTIMES, quantizer
from compress.stages.export.problems import INTEGER_IO, export_problems
from compress.stages.kind import StageKind
from compress.stages.model import is_onnx_network
from compress.stages.planned import PlannedStage, Planner
from compress.stages.quantize import QuantizeStage
from compress.stages.runtime_packages import runtime_packages
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import join_words
from compress.utils.precision import HALF

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.stages.costs import Cost, CostModel

REVISION = 10  # raised when exported files of the same network, or what is recorded of them, change


class ExportStage(StageKind):
    """Export of variants to deployable files, one per runtime."""

    kind: Literal["export"]
    from_: list[Identifier] = Field(alias="from", min_length=1, description="ids of the stages to export")
    runtimes: Runtimes = Field(
        ["onnxruntime", "openvino"],
        min_length=1,
        description="auto: all installed ones that support the variant, the fastest within `auto_loss` selected",
    )
    auto_loss: AccuracyLoss = Field(
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
    layer_times: bool = Field(
        False,
        exclude_if=lambda wanted: not wanted,
        description="files for inductor note the time of each kernel for `bench --layers`, which costs about a "
        "microsecond a kernel in every run",
    )
    integer_io: bool = Field(
        False,
        description="INT8 files for LiteRT take and return integers too, as microcontrollers and Edge TPUs need",
    )
    temperature_scaling: bool = Field(
        False,
        description="divide the logits by a temperature that is fitted on the validation images, folded into the last "
        "layer: confidence is calibrated, predictions stay",
    )
    text: bool = Field(
        False,
        exclude_if=lambda text: not text,  # resolved recipes without it stay as they were
        description="also write the teacher's text tower beside the files of an embedding student, from which "
        "`compress-model classes` makes other class lists",
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

    @property
    def options(self) -> FileOptions:
        return FileOptions(self.opset, self.ir_version, self.layer_times)

    def progress(self) -> str:
        return "exporting"

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        yield from export_problems(self, recipe)

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
        targets = self.targets(variant.stage, runtimes)
        packages = runtime_packages(runtimes)
        if methods := methods_by_runtime(variant.stage, planner.recipe, runtimes):
            used = (package for method in methods.values() for package in quantizer(method).packages)
            packages = tuple(dict.fromkeys((*packages, *used)))
        key = planner.key(self.settings_for(variant.stage, planner.recipe), packages, [variant.key])
        names = tuple(dict.fromkeys(target.runtime for target in targets))
        files = tuple(target.name for target in targets)
        return PlannedStage(f"{self.id}/{variant.id}", self, key, variant.id, runtimes=names, files=files)

    def settings_for(self, variant: StageKind, recipe: Recipe) -> dict[str, Any]:
        """Return the settings that determine the files of a variant, as JSON data; those of no effect on it left out.

        Two exports of one variant with the same settings make the same entry of the store.
        """
        runtimes = self._runtimes_for(variant, recipe)
        settings: dict[str, Any] = {"runtimes": runtimes, "triton": self.triton, "files": REVISION}
        if self.triton:  # its configuration states its name
            settings["triton"] = triton_name(variant.id, None)
        if self.opset:
            settings["opset"] = self.opset
        if self.ir_version:
            settings["ir_version"] = self.ir_version
        if self.layer_times and "inductor" in runtimes:
            settings["layer_times"] = True
        targets = self.targets(variant, runtimes)
        folders = {name: [target.folder for target in targets if target.runtime == name] for name in runtimes}
        if folders != {name: [Target(name).folder] for name in runtimes}:
            settings["folders"] = folders
        if self.auto:
            settings["auto"] = True
        if self.temperature_scaling:
            settings["temperature_scaling"] = True
        if bound := [runtime for runtime in map(find_runtime, runtimes) if not runtime.portable]:
            settings["processor"] = list(dict.fromkeys(part for runtime in bound for part in runtime.compiled_for()))
        if variant.embeds_in(recipe):
            settings["output"] = "embedding"
        if self.writes_text(variant, recipe):
            settings["text"] = True
        if methods := methods_by_runtime(variant, recipe, runtimes):
            settings["methods"] = methods
        if self.integer_io and INTEGER_IO in methods:
            settings["integer_io"] = True
        return settings

    def places(self, variant: StageKind, recipe: Recipe) -> list[str]:
        """Return the folders below that of the run which the files of a variant are written to."""
        targets = self.targets(variant, self._runtimes_for(variant, recipe))
        folders = [f"artifacts/{variant.id}/{target.folder}" for target in targets]
        served = [target for target in targets if self.triton and target.runtime in BACKENDS]
        models = [f"triton/{triton_name(variant.id, target.precision)}" for target in served]
        texts = [f"artifacts/{variant.id}/{TEXT}"] if self.writes_text(variant, recipe) else []
        return list(dict.fromkeys(folders + models + texts))

    def writes_text(self, variant: StageKind, recipe: Recipe) -> bool:
        """Return whether it writes the text tower of a variant's teacher, which a stage of the recipe brings."""
        origin = variant.origin(recipe)
        return self.text and origin is not None and origin.embeds and bool(origin.parents())

    def _runtimes_for(self, variant: StageKind, recipe: Recipe) -> list[str]:
        """Return the runtimes of the recipe; for `auto`, the installed ones that support the variant."""
        if not self.auto:
            return self.runtimes
        supported = [name for name in RUNTIMES if not find_runtime(name).runs_on]
        if isinstance(variant, QuantizeStage):
            methods = {name: variant.method_for(recipe, find_runtime(name).quantizers) for name in supported}
            supported = [name for name in supported if (own := methods[name]) and not quantizer(own).missing()]
            supported = [name for name in supported if find_runtime(name).target in (None, variant.target)]
        if is_onnx_network(recipe, variant.id):
            supported = [name for name in supported if find_runtime(name).from_onnx]
        return [name for name in supported if not missing(name)]

    def runtimes_used(self) -> tuple[str, ...]:
        return () if self.auto else tuple(self.runtimes)

    def sends_files(self) -> bool:
        return self.auto or any(cannot_be_sent(name) is None for name in self.runtimes)

    def require(self, recipe: Recipe) -> None:
        if self.triton and self.auto and all(map(missing, BACKENDS)):
            install = find_runtime(BACKENDS[0]).install
            raise CompressError(f"`triton` needs {join_words(BACKENDS)}, and none is installed: {install}")
        if self.integer_io and self.auto and missing(INTEGER_IO):
            raise CompressError(f"`integer_io` needs {INTEGER_IO}: {find_runtime(INTEGER_IO).install}")

    def check_data(self, data: ImageData) -> None:
        if self.triton:
            check_labels(data.classes)
        if self.temperature_scaling and not len(data.validation):
            raise UsageError(f"stage {self.id}: temperature_scaling is fitted on validation images, and there are none")

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


def triton_name(variant: str, precision: str | None) -> str:
    """Return the name of a variant's model in a Triton repository: its id, and the precision where that is half."""
    return f"{variant}-{precision}" if precision in HALF else variant
