"""The `quantize` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field

from compress.quantization.method import require_method
from compress.recipe.base import Fraction, Identifier
from compress.recipe.fit import Distillation, Fit, reads_features
from compress.recipe.quantizer_name import MethodName, ObserverName
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, QUANTIZED, SPARSE
from compress.registry import quantizer, quantizers
from compress.stages.kind import FIT_PACKAGES, StageKind
from compress.stages.planned import PlannedStage
from compress.utils.errors import UsageError
from compress.utils.messages import join_words

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.stages.costs import Cost, CostModel


class AwareTraining(Distillation):
    """Hyperparameters of quantization-aware training."""

    observers_until: Fraction = Field(0.5, description="fraction of steps after which activation ranges are frozen")
    batch_norm_until: Fraction = Field(
        0.67, description="fraction of steps after which batch norm statistics are frozen"
    )


class QuantizeStage(StageKind):
    """Static INT8 quantization of convolutions and linear layers, post-training or quantization-aware."""

    kind: Literal["quantize"]
    from_: Identifier = Field(alias="from", description="id of the stage to quantize")
    method: MethodName = Field(
        "torchao",
        description="torchao (PT2E): for every runtime; nncf, onnxruntime: for runtimes that read ONNX",
    )
    calibration_images: int = Field(512, ge=1, description="size of the calibration set")
    calibrate_on: Literal["train", "unlabeled"] = Field("train", description="split of the calibration set")
    calibration_seed: int | None = Field(
        None, ge=0, lt=2**31, description="seed of the calibration set; default: the recipe's"
    )
    observer: ObserverName | None = Field(
        None,
        description="activation ranges from least error, extremes, a percentile, mean extremes of images, or least "
        "divergence; default: depends on `method`",
    )
    bias_correction: Literal["off", "fast", "full"] = Field(
        "off", description="correct the mean error of layers in their bias; `method: nncf` only"
    )
    equalize: bool = Field(False, description="cross-layer equalization first (arXiv 1906.04721); `method: nncf` only")
    percentile: float = Field(99.9, gt=50, lt=100, description="percentile that `observer: percentile` clips at")
    target: Literal["x86", "portable"] = Field(
        "x86",
        description="x86: unsigned activations with zero points, for x86 kernels; portable: signed and symmetric, as "
        "TensorRT requires",
    )
    reduce_range: bool = Field(
        True, description="use 7 of 8 weight bits; INT8 kernels of CPUs without VNNI overflow otherwise"
    )
    linear_weight_bits: Literal[8, 4] = Field(
        8,
        description="weight bits of linear layers; 4: dynamic 8-bit activations, `method: nncf` or `onnxruntime` only",
    )
    keep: list[str] = Field([], description="layers to keep in float, by name; * is a wildcard")
    keep_accuracy: Fraction | None = Field(
        None,
        description="accuracy loss on validation to stay within, by returning the most sensitive layers to float",
    )
    training: AwareTraining | None = Field(
        None, description="quantization-aware training instead of calibration; `method: torchao` only"
    )

    maker: ClassVar[str] = "compress.stages.quantize.make:make_quantized"
    makes: ClassVar[frozenset[str]] = frozenset({QUANTIZED})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK, SPARSE})
    fit_label: ClassVar[str] = "quantization-aware training"
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "quantized"
    remedy: ClassVar[str] = "more calibration images, `keep_accuracy`, another method, or quantization-aware training"
    overhead: ClassVar[float] = 20.0
    tag: ClassVar[str | None] = "quantization"

    @property
    def precision(self) -> str:
        return "int8" if self.linear_weight_bits == 8 else "int8/int4"

    def progress(self) -> str:
        return f"quantizing {self.from_}"

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        if self.training:
            yield "training", self.training

    def joined_by_devices(self) -> bool:
        return False  # quantization-aware training runs on one device

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        method = quantizer(self.method)
        if self.observer and self.observer not in method.observers:
            message = (
                f"`method: {self.method}` does not support {self.observer!r}; allowed: {join_words(method.observers)}"
            )
            yield "observer", message
        if self.target != "x86" and self.method != "torchao":
            message = f"`method: {self.method}` supports x86 only; for {self.target}, set `method: torchao`"
            yield "target", message
        if self.linear_weight_bits != 8 and not method.in_file:
            others = join_words(f"`method: {name}`" for name, other in quantizers().items() if other.in_file)
            message = f"`method: {self.method}` supports 8 only; for {self.linear_weight_bits}, set {others}"
            yield "linear_weight_bits", message
        if not method.corrects:
            others = join_words(f"`method: {name}`" for name, other in quantizers().items() if other.corrects)
            for key, enabled in (("bias_correction", self.bias_correction != "off"), ("equalize", self.equalize)):
                if enabled:
                    yield key, f"`method: {self.method}` does not support it; remove it or set {others}"
        if self.training:
            yield from (("training", message) for message in self._training_problems(self.training, recipe))

    def _training_problems(self, training: AwareTraining, recipe: Recipe) -> Iterator[str]:
        if self.method != "torchao":
            yield f"`method: {self.method}` quantizes a file, which cannot be trained; remove `method`"
        if self.target != "x86":
            yield f"`target: {self.target}` is for post-training quantization only; remove it or `training`"
        for key in ("observer", "keep_accuracy"):
            if getattr(self, key) is not None:
                yield f"`{key}` is for post-training quantization only; remove it or `training`"
        for key in ("ema", "compile", "freeze"):
            if getattr(training, key):
                yield f"`{key}` is not supported in quantization-aware training; remove it"
        reads = reads_features(training)
        if reads or training.classifier == "teacher":
            message = "needs features, which quantization-aware training does not expose; remove it"
            yield f"{join_words(reads, 'and') or '`classifier: teacher`'} {message}"
        if recipe.trainer.several_processes:
            yield "quantization-aware training is supported on one device only; set `trainer.devices: 1`"

    def for_dry_run(self) -> Self:
        few = {"calibration_images": min(self.calibration_images, 4), "keep_accuracy": None}
        return super().for_dry_run().model_copy(update=few)

    def onnx_problem(self) -> str | None:
        methods = join_words(f"`method: {name}`" for name, other in quantizers().items() if other.in_file)
        if self.training:
            return f"an ONNX file cannot be trained; remove `training` and set {methods}"
        if not quantizer(self.method).in_file:
            return f"`method: {self.method}` quantizes a network in PyTorch, not an ONNX file; set {methods}"
        return None

    def packages(self) -> tuple[str, ...]:
        return (*(FIT_PACKAGES if self.training else ("torch",)), *quantizer(self.method).packages)

    def learns_from_ancestor(self) -> bool:
        return self.training is not None

    def require(self) -> None:
        require_method(self.method)

    def check_data(self, data: ImageData) -> None:
        if not len(getattr(data, self.calibrate_on)):
            raise UsageError(f"stage {self.id}: no calibration images in {self.calibrate_on}; change `calibrate_on`")

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        if self.training:
            return costs.fit(planned, self.training)
        return costs.inference(planned, self.calibration_images) + costs.evaluation(planned)
