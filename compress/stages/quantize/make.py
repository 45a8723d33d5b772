"""Make the variant of a `quantize` stage: static INT8, by calibration or quantization-aware training."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.efficiency.collapse import COLLAPSE, blame, next_steps
from compress.measurement.compute import layer_weights, macs
from compress.measurement.predict import split_batches
from compress.models.architecture import Network
from compress.models.heads import layers_named
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.mixed_precision import search_mixed_precision
from compress.quantization.noise import IMAGES, explain
from compress.quantization.ptq import quantize
from compress.quantization.serialize import save_quantized
from compress.registry import quantizer
from compress.results import Accuracy, Ledger, Quantization, QuantizationNoise, VariantMetrics
from compress.stages.context import BATCH, METRICS, StageContext
from compress.stages.evaluation import evaluate_and_store, quantized_inference
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage
from compress.stages.quantize.qat import train_aware
from compress.utils.console import say
from compress.utils.errors import first_line, is_interruption
from compress.utils.machine_faults import is_disk_full
from compress.utils.messages import join_words, truncate_list


def make_quantized(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Quantize a network, post-training or quantization-aware, store it and evaluate it."""
    stage = planned.stage
    assert isinstance(stage, QuantizeStage) and planned.parent
    network = context.parent_network(planned.parent)
    ledger = Ledger.start(context.metrics(planned.parent).training)
    if stage.training:
        quantized, config, ledger = train_aware(context, planned, folder, network, ledger)
        method = stage.own_method(context.recipe)
        assert method
        record = Quantization(method=method, observer=None, keep=config.keep, aware=True)
    else:
        job = Calibration.of(context, stage, network)
        quantized, config, ledger, record = _calibrate(job, ledger)
        if stage.diagnose:
            record = record.model_copy(update={"noise": _noise(job, quantized, config)})
    _say_float_layers(stage.id, network.model, quantized, config)
    model, preprocess = network.model, network.preprocess
    size = save_quantized(folder, network, quantized.network, config, record.method)
    inference = quantized_inference(model, preprocess, quantized.layers, quantized.convolutions, size, network.classes)
    classifier = replace(network, model=quantized.network).classifier, preprocess
    evaluate_and_store(context, planned.id, folder, classifier, inference, ledger, quantization=record)
    before = context.metrics(planned.parent).validation
    for line in collapse_lines(before, VariantMetrics.read(folder / METRICS).validation, record):
        say(f"  {line}")


def _say_float_layers(identifier: str, model: nn.Module, quantized: Quantized, config: QuantizationConfig) -> None:
    """Name the layers that the method has left in float by itself, as torchao does with projections of attention."""
    left = [name for name, _ in layer_weights(model) if name not in quantized.layers and name not in config.keep]
    if left:
        say(
            f"  {identifier}: {len(left)} layers stay in float, as the method does not take them: {truncate_list(left)}"
        )


def _noise(job: Calibration, quantized: Quantized, config: QuantizationConfig) -> QuantizationNoise | None:
    """Return the errors of layers; None where they cannot be measured, which does not fail the network."""
    try:
        return job.noise(quantized, config)
    except Exception as error:  # what a runtime, or the pairing of two graphs, raises, also for a lack of memory
        if is_disk_full(error) or is_interruption(error):
            raise
        reason = f"{type(error).__name__}: {first_line(error)}"
        say(f"  {job.stage.id}: the errors of its layers cannot be measured: {reason}")
        return None


@dataclass
class Calibration:
    """Post-training quantization of a network, and its compute so far."""

    context: StageContext
    stage: QuantizeStage
    network: Network
    config: QuantizationConfig  # settings, including the layers that the recipe keeps in float
    images: Split  # the calibration set
    preprocess: Preprocess  # from these images to the network's input
    method: str
    calibrations: int = 0  # number of calibration passes
    validations: int = 0  # number of evaluations on validation

    @classmethod
    def of(cls, context: StageContext, stage: QuantizeStage, network: Network) -> Calibration:
        method = stage.own_method(context.recipe)
        assert method
        config = config_of(stage, method, layers_named(network.model, stage.keep))
        images, preprocess = calibration_set(context, stage, network.preprocess)
        return cls(context, stage, network, config, images, preprocess, method)

    def quantize(self, keep: tuple[str, ...] = (), observer: str | None = None) -> Quantized:
        """Quantize all layers except `keep` and those that the recipe keeps in float, with its or another observer."""
        self.calibrations += 1
        side = self.network.preprocess.resolution
        example = torch.zeros(2, 3, side, side)
        batches = split_batches(self.images, self.preprocess, BATCH)
        config = replace(
            self.config,
            keep=(*self.config.keep, *keep),
            observer=observer or self.config.observer,
            device=str(self.context.device),
        )
        with torch.inference_mode(False), torch.no_grad():
            return quantize(self.network.model, batches, example, config, self.method)

    def logits(self, network: nn.Module) -> Tensor:
        """Compute the logits of the validation images by the network, or by a quantized one in its place."""
        self.validations += 1
        classifier = replace(self.network, model=network).classifier
        return torch.from_numpy(self.context.logits(classifier, "validation", self.network.preprocess))

    def noise(self, quantized: Quantized, config: QuantizationConfig) -> QuantizationNoise | None:
        """Measure the errors of the layers of a network that was quantized with `config`."""
        validation: list[Tensor] = []
        if images := len(self.context.data.validation):
            rows = np.random.default_rng(self.context.recipe.seed).permutation(images)[:IMAGES]
            whole = self.context.rendered("validation", self.network.preprocess)
            validation = list(split_batches(*whole, BATCH, np.sort(rows)))
        batches = list(split_batches(self.images, self.preprocess, BATCH))
        config = replace(config, device=str(self.context.device))
        with torch.inference_mode(False), torch.no_grad():
            return explain(self.network.model, quantized, config, batches, validation)

    def charged(self, ledger: Ledger) -> Ledger:
        """Charge calibration and validation to the ledger."""
        side, images = self.network.preprocess.resolution, len(self.images)
        forward = macs(self.network.model, side)
        times = f", {self.calibrations} times" if self.calibrations > 1 else ""
        ledger = ledger.charge(f"calibration on {images} images{times}", self.calibrations * images * forward)
        if self.validations:
            classified = macs(self.network.classifier, side)
            cost = self.validations * len(self.context.data.validation.images) * classified
            ledger = ledger.charge(f"validation of {self.validations} networks", cost)
        return ledger


def _calibrate(job: Calibration, ledger: Ledger) -> tuple[Quantized, QuantizationConfig, Ledger, Quantization]:
    record = Quantization(
        method=job.method,
        linear_weight_bits=job.stage.linear_weight_bits,
        observer=job.config.observer,
        calibration_images=len(job.images),
        keep=job.config.keep,
    )
    if job.stage.keep_accuracy is None:
        quantized = job.quantize()
    else:
        quantized, record = _within_loss(job, job.stage.keep_accuracy, record)
    config = replace(job.config, keep=record.keep, observer=record.observer)
    return quantized, config, job.charged(ledger), record


def _within_loss(job: Calibration, allowed: float, record: Quantization) -> tuple[Quantized, Quantization]:
    """Return the quantized network within the `allowed` accuracy loss on validation, and the record of the search."""
    labels = job.context.data.validation.labels
    assert labels is not None
    logits = job.logits(job.network.model)
    own = quantizer(job.method).observers if job.stage.observer is None else ()
    others = [name for name in own if name != job.config.observer]
    given = torch.from_numpy(np.array(labels))
    result = search_mixed_precision(job.quantize, job.logits, given, logits, allowed, others)
    if result.observer:
        say(f"  {job.stage.id}: `observer: {result.observer}`, as INT8 collapsed with {job.config.observer}")
    if result.keep:
        say(f"  {job.stage.id}: kept in float to limit accuracy loss: {', '.join(result.keep)}")
    details = {
        **dict(record),
        "observer": result.observer or record.observer,
        "keep": (*record.keep, *result.keep),
        "keep_found": result.keep,
        "sensitivity": result.sensitivity,
        "trials": [asdict(trial) for trial in result.trials],
    }
    return result.quantized, Quantization.model_validate(details)


def collapse_lines(before: Accuracy | None, after: Accuracy | None, record: Quantization) -> list[str]:
    """Warn of accuracy on validation that collapsed, and say why and what to try; empty where it did not."""
    if before is None or after is None or round(before.top1 - after.top1, 9) < COLLAPSE:
        return []
    steps = join_words(next_steps(record), "or") or QuantizeStage.remedy
    lost = f"warning: INT8 lost {100 * (before.top1 - after.top1):.1f} points on validation; try {steps}"
    return [lost, *filter(None, [blame(record)])]


def config_of(stage: QuantizeStage, method: str, keep: Iterable[str]) -> QuantizationConfig:
    """Return the settings of a stage for a method, with the layers that stay in float."""
    record = quantizer(method)
    return QuantizationConfig(
        observer=stage.observer or record.observers[0],
        percentile=stage.percentile,
        reduce_range=record.reduces and stage.reduce_range is not False,
        keep=tuple(keep),
        bias_correction=stage.bias_correction,
        equalize=stage.equalize,
        target=stage.target,
        linear_weight_bits=stage.linear_weight_bits,
    )


def calibration_set(context: StageContext, stage: QuantizeStage, preprocess: Preprocess) -> tuple[Split, Preprocess]:
    """Draw the calibration set; each batch of it is in the order of the split."""
    images = len(getattr(context.data, stage.calibrate_on))
    seed = context.recipe.seed if stage.calibration_seed is None else stage.calibration_seed
    chosen = np.random.default_rng(seed).permutation(images)[: stage.calibration_images]
    rows = [np.sort(chosen[start : start + BATCH]) for start in range(0, len(chosen), BATCH)]
    return context.rendered(stage.calibrate_on, preprocess, np.concatenate(rows))
