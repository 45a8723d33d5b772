"""The `quantize` stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, Literal

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
from compress.utils.messages import listed

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.stages.costs import Cost, CostModel

CALIBRATION_SECONDS = 20.0


class AwareTraining(Distillation):
    """Training of a network with integer arithmetic simulated in it."""

    observers_until: Fraction = Field(0.5, description="share of the steps after which activation ranges are frozen")
    batch_norm_until: Fraction = Field(0.67, description="share of the steps after which statistics are frozen")


class QuantizeStage(StageKind):
    """Static INT8 of convolutions and linears, calibrated on images that were learnt from."""

    kind: Literal["quantize"]
    from_: Identifier = Field(alias="from")
    method: MethodName = Field(
        "torchao",
        description="torchao's PT2E, for every runtime, or made of the ONNX file, for those that read it",
    )
    calibration_images: int = Field(512, ge=1)
    calibrate_on: Literal["train", "unlabeled"] = "train"
    calibration_seed: int | None = Field(None, ge=0, lt=2**31, description="which images; without it, the recipe's")
    observer: ObserverName | None = Field(
        None,
        description="what finds activation ranges: least error, the extremes, a share of the values, the images' mean "
        "extremes, least divergence; without it, the method's own",
    )
    bias_correction: Literal["off", "fast", "full"] = Field(
        "off", description="whether a layer's mean error is taken out of its bias; of `method: nncf`"
    )
    equalize: bool = Field(
        False, description="bring neighbouring channels to one range first (arXiv 1906.04721); of `method: nncf`"
    )
    percentile: float = Field(99.9, gt=50, lt=100, description="of `observer: percentile`: what is not cut off")
    target: Literal["x86", "portable"] = Field(
        "x86",
        description="x86: unsigned activations with zero points, for x86 kernels; portable: everything signed and "
        "symmetric, which TensorRT asks for",
    )
    reduce_range: bool = Field(
        True, description="weights of 7 bits in INT8: integer kernels of processors without VNNI overflow with 8"
    )
    linear_weight_bits: Literal[8, 4] = Field(
        8,
        description="of linear layers; 4: in blocks of 32, activations rounded to 8 bits as they come; convolutions "
        "stay at 8; of `method: nncf` and `onnxruntime`",
    )
    keep: list[str] = Field([], description="layers that stay in float, by name; * stands for any characters")
    keep_accuracy: Fraction | None = Field(
        None,
        description="loss on validation that is allowed: until it holds, the most sensitive layers go back to float",
    )
    training: AwareTraining | None = Field(
        None, description="quantization-aware training, instead of calibration alone; of `method: torchao`"
    )

    maker: ClassVar[str] = "compress.stages.quantize.make:make_quantized"
    makes: ClassVar[frozenset[str]] = frozenset({QUANTIZED})
    starts_from: ClassVar[frozenset[str]] = frozenset({NETWORK, SPARSE})
    fit_label: ClassVar[str] = "quantization-aware training"
    continues_ledger: ClassVar[bool] = True
    lineage: ClassVar[str] = "quantized"
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
        return False  # its training is on one device

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        method = quantizer(self.method)
        if self.observer and self.observer not in method.observers:
            yield "observer", f"`method: {self.method}` has no {self.observer!r}; it has {listed(method.observers)}"
        if self.target != "x86" and self.method != "torchao":
            yield "target", f"`method: {self.method}` has x86 only; torchao has {self.target}"
        if self.linear_weight_bits != 8 and not method.in_file:
            able = listed([name for name, other in quantizers().items() if other.in_file], "and")
            yield "linear_weight_bits", f"`method: {self.method}` has 8 only; {able} have {self.linear_weight_bits}"
        if not method.corrects:
            able = listed(name for name, other in quantizers().items() if other.corrects)
            for key, asked in (("bias_correction", self.bias_correction != "off"), ("equalize", self.equalize)):
                if asked:
                    yield key, f"`method: {self.method}` cannot do that; {able} can"
        if self.training:
            yield from (("training", message) for message in self._training_problems(self.training, recipe))

    def _training_problems(self, training: AwareTraining, recipe: Recipe) -> Iterator[str]:
        if self.method != "torchao":
            yield f"`method: {self.method}` quantizes a file, which cannot be trained; leave `method` out"
        if self.target != "x86":
            yield f"`target: {self.target}` is of calibration alone; leave one of the two out"
        for key in ("observer", "keep_accuracy"):
            if getattr(self, key) is not None:
                yield f"`{key}` is of calibration; quantization-aware training learns the ranges"
        for key in ("ema", "compile"):
            if getattr(training, key):
                yield f"`{key}` does not go with the graph that is trained"
        reads = reads_features(training)
        if reads or training.classifier == "teacher":
            yield f"{listed(reads) or '`classifier: teacher`'} reads features, which the trained graph does not show"
        if recipe.trainer.several_processes:
            yield "quantization-aware training is on one device: set `trainer.devices: 1`"

    def packages(self) -> tuple[str, ...]:
        return (*(FIT_PACKAGES if self.training else ("torch",)), *quantizer(self.method).packages)

    def learns_from_ancestor(self) -> bool:
        return self.training is not None

    def require(self) -> None:
        require_method(self.method)

    def check_data(self, data: ImageData) -> None:
        if not len(getattr(data, self.calibrate_on)):
            raise UsageError(f"stage {self.id}: no {self.calibrate_on} images to calibrate on")

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        if self.training:
            return costs.fit(planned, self.training)
        return costs.calibration(planned, self.calibration_images, CALIBRATION_SECONDS)
