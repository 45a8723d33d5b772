"""The `quantize` stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field

from compress.quantization.choice import Demands, first_able, of_variants
from compress.quantization.method import Method, require_method
from compress.recipe.base import AccuracyLoss, Fraction, Identifier
from compress.recipe.fit import Distillation, Fit, reads_features
from compress.recipe.quantizer_name import AUTO, MethodName, ObserverName
from compress.recipe.schema import Recipe
from compress.recipe.stage import NETWORK, QUANTIZED, SPARSE
from compress.registry import quantizer, quantizers
from compress.stages.kind import FIT_PACKAGES, StageKind
from compress.stages.model import is_onnx_network
from compress.stages.planned import PlannedStage, Planner
from compress.utils.errors import UsageError
from compress.utils.messages import join_words

if TYPE_CHECKING:
    from compress.data.prepared import ImageData
    from compress.stages.costs import Cost, CostModel


CALIBRATION = frozenset(("calibrate_on", "calibration_seed", "keep_accuracy", "observer", "percentile"))
"""Settings that quantization-aware training does not use."""


LAYERS = 20  # layers that `keep_accuracy` quantizes alone in a network such as ResNet18


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
        AUTO,
        description="auto: for each runtime the method whose file it runs in integer throughout; torchao "
        "(PT2E): for every runtime; nncf, onnxruntime: for runtimes that read ONNX",
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
    reduce_range: bool | None = Field(
        None,
        description="use 7 of 8 weight bits; INT8 kernels of x86 CPUs without VNNI overflow otherwise; default: true "
        "for files that such kernels run",
    )
    linear_weight_bits: Literal[8, 4] = Field(
        8,
        description="weight bits of linear layers; 4: dynamic 8-bit activations, `method: nncf` or `onnxruntime` only",
    )
    keep: list[str] = Field([], description="layers to keep in float, by name; * is a wildcard")
    keep_accuracy: AccuracyLoss | None = Field(
        None,
        description="accuracy loss on validation to stay within, by returning the most sensitive layers to float",
    )
    diagnose: bool = Field(
        True,
        description="measure why accuracy is lost: errors of single layers, and how far the calibration set covers "
        "validation; of post-training quantization",
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
    def variant_precision(self) -> str:
        return "int8" if self.linear_weight_bits == 8 else "int8/int4"

    def progress(self) -> str:
        return f"quantizing {self.from_}"

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        if self.training:
            yield "training", self.training

    def uses_trainer(self) -> bool:
        return self.training is not None

    def joined_by_devices(self) -> bool:
        return False  # quantization-aware training runs on one device

    @property
    def demands(self) -> Demands:
        """Settings that not every method has."""
        return Demands(
            observer=self.observer,
            target=self.target,
            linear_weight_bits=self.linear_weight_bits,
            bias_correction=self.bias_correction != "off",
            equalize=self.equalize,
            reduce_range=self.reduce_range,
            keep=bool(self.keep),
            keep_accuracy=self.keep_accuracy is not None,
            training=self.training is not None,
        )

    def own_method(self, recipe: Recipe) -> str | None:
        """Return the method of the variant itself, whose accuracy is the variant's; None if none has all settings."""
        return self._first_able(recipe, of_variants())

    def method_for(self, recipe: Recipe, methods: Sequence[str]) -> str | None:
        """Return which of a runtime's methods, in the order of its preference, makes the variant's file for it."""
        if self.method != AUTO:
            return self.method if self.method in methods else None
        return self._first_able(recipe, methods)

    def _first_able(self, recipe: Recipe, methods: Sequence[str]) -> str | None:
        if self.method != AUTO:
            return self.method
        return first_able(methods, replace(self.demands, from_onnx=is_onnx_network(recipe, self.from_)))

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        if self.method != AUTO:
            method = quantizer(self.method)
            unmet = self.demands.unmet(method)
            yield from ((key, _unmet_problem(self, method, key)) for key in unmet if key != "training")
        elif self.own_method(recipe) is None:
            unmet = tuple(dict.fromkeys(key for name in of_variants() for key in self.demands.unmet(quantizer(name))))
            yield "method", f"no method has {join_words(map('`{}`'.format, unmet), 'and')} together; remove one of them"
        if self.training:
            yield from (("training", message) for message in self._training_problems(self.training, recipe))

    def _training_problems(self, training: AwareTraining, recipe: Recipe) -> Iterator[str]:
        if self.method != AUTO and not quantizer(self.method).trains:
            yield f"`method: {self.method}` quantizes a file, which cannot be trained; remove `method`"
        if self.target != "x86":
            yield f"`target: {self.target}` is for post-training quantization only; remove it or `training`"
        for key in sorted(CALIBRATION):
            if getattr(self, key) != type(self).model_fields[key].default:  # a resolved recipe states the defaults, too
                yield f"`{key}` is for post-training quantization only; remove it or `training`"
        if not training.epochs or not training.observers_until:
            yield "no step would observe the ranges of activations; set `epochs` and `observers_until` above 0"
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
        few = {"calibration_images": min(self.calibration_images, 4), "keep_accuracy": None, "diagnose": False}
        return super().for_dry_run().model_copy(update=few)

    def onnx_problem(self) -> str | None:
        methods = join_words(f"`method: {name}`" for name, other in quantizers().items() if other.in_file)
        if self.training:
            return f"an ONNX file cannot be trained; remove `training` and set {methods}"
        if self.method != AUTO and not quantizer(self.method).in_file:
            return f"`method: {self.method}` quantizes a network in PyTorch, not an ONNX file; set {methods}"
        return None

    def packages(self) -> tuple[str, ...]:
        method = "torchao" if self.method == AUTO else self.method  # `plan` asks the stage with its own method
        return (*(FIT_PACKAGES if self.training else ("torch",)), *quantizer(method).packages)

    def learns_from_ancestor(self) -> bool:
        return self.training is not None

    def require(self, recipe: Recipe) -> None:
        if method := self.own_method(recipe):
            require_method(method)

    def plan(self, planner: Planner) -> list[PlannedStage]:
        own = self.model_copy(update={"method": self.own_method(planner.recipe)})
        return [replace(planned, stage=self) for planned in StageKind.plan(own, planner)]

    def key_settings(self, recipe: Recipe) -> dict[str, Any]:
        settings = {**super().key_settings(recipe), "reduce_range": self.reduce_range is not False}
        if self.diagnose:  # entries of versions without it are used again
            del settings["diagnose"]
        tried = self.observer == "percentile" or (self.observer is None and self.keep_accuracy is not None)
        if tried and self.method == "torchao":
            settings["sample"] = "random"  # before, every so many-th value, which are of few channels
        if self.keep_accuracy is not None and self.observer is None:
            settings["observers"] = "tried"  # other observers than the default, after a collapse
        if self.method != AUTO and quantizer(self.method).in_file:
            settings["padding"] = "absorbed"  # before, infinite padding made its scales infinite
        return settings

    def check_data(self, data: ImageData) -> None:
        if not len(getattr(data, self.calibrate_on)):
            raise UsageError(f"stage {self.id}: no calibration images in {self.calibrate_on}; change `calibrate_on`")

    def cost(self, planned: PlannedStage, costs: CostModel) -> Cost:
        if self.training:
            return costs.fit(planned, self.training)
        calibration = costs.inference(planned, self.calibration_images)
        searched = LAYERS if self.keep_accuracy is not None else 0  # at most: where it has to look for layers
        tried = calibration + costs.inference(planned, len(costs.data.validation.images))
        return calibration + costs.evaluation(planned) + (searched * tried.macs, searched * tried.seconds)


def _unmet_problem(stage: QuantizeStage, method: Method, key: str) -> str:
    """Say that the method of a stage does not have the setting `key`, and what to do."""
    name = f"`method: {stage.method}`"
    if key == "observer":
        return f"{name} does not support {stage.observer!r}; allowed: {join_words(method.observers)}"
    if key == "target":
        return f"{name} supports x86 only; for {stage.target}, set `method: torchao`"
    able = (other for other in of_variants() if key not in stage.demands.unmet(quantizer(other)))
    others = join_words(f"`method: {other}`" for other in able)
    if key == "linear_weight_bits":
        return f"{name} supports 8 only; for {stage.linear_weight_bits}, set {others}"
    return f"{name} does not support it; remove it or set {others}"
