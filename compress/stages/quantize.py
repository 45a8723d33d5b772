"""The `quantize` stage: static INT8, calibrated on images that were learnt from, checked on validation where asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.preprocess import Preprocess
from compress.measurement.compute import bit_operations, count, macs, parameters
from compress.measurement.widths import widths
from compress.models.architecture import Network
from compress.models.checkpoints import load_variant
from compress.models.layers import layers_named
from compress.pipeline.plan import PlannedStage
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.mixed_precision import search_mixed_precision
from compress.quantization.ptq import quantize
from compress.quantization.serialize import save_quantized
from compress.recipe.schema import QuantizeStage
from compress.registry import quantizer
from compress.stages.context import Metrics, StageContext, parts, test_logits, write_variant
from compress.stages.fitting import charge, new_ledger
from compress.stages.qat import train_aware
from compress.utils.console import say


@dataclass
class Quantizing:
    """A network that is being quantized, and what that has taken so far.

    Attributes:
        scheme: How, with the layers that the recipe leaves in float.
        images: Images of the calibration in batches, uint8.
        calibrations: How often it was calibrated.
        validations: How often the validation images were answered.
    """

    work: StageContext
    stage: QuantizeStage
    model: nn.Module
    preprocess: Preprocess
    scheme: QuantizationConfig
    images: list[np.ndarray]
    calibrations: int = 0
    validations: int = 0

    @classmethod
    def of(cls, work: StageContext, stage: QuantizeStage, model: nn.Module, preprocess: Preprocess) -> Quantizing:
        scheme = QuantizationConfig(
            observer=stage.observer or quantizer(stage.method).observers[0],
            percentile=stage.percentile,
            reduce_range=stage.reduce_range,
            keep=tuple(layers_named(model, stage.keep)),
            bias_correction=stage.bias_correction,
            equalize=stage.equalize,
            target=stage.target,
            linear_weight_bits=stage.linear_weight_bits,
        )
        return cls(work, stage, model, preprocess, scheme, _calibration(work, stage))

    def without(self, keep: tuple[str, ...]) -> Quantized:
        """The network in INT8 but for these layers and those of the recipe."""
        self.calibrations += 1
        example = torch.zeros(2, 3, self.preprocess.resolution, self.preprocess.resolution)
        batches = (self.preprocess(torch.from_numpy(part)) for part in self.images)
        scheme = replace(self.scheme, keep=(*self.scheme.keep, *keep))
        with torch.inference_mode(False), torch.no_grad():
            return quantize(self.model, batches, example, scheme, self.stage.method)

    def logits(self, network: nn.Module) -> Tensor:
        """Answers to the validation images."""
        self.validations += 1
        images = self.work.data.validation.images
        rows = list(parts(np.arange(len(images)), 64))
        with torch.no_grad():
            return torch.cat(
                [network(self.preprocess(torch.from_numpy(np.array(images[r[0] : r[-1] + 1])))) for r in rows]
            )

    def charge(self, ledger: Metrics, forward: int) -> None:
        """Put what it took into a training ledger; `forward` are the MACs of an image."""
        images = sum(map(len, self.images))
        times = f", {self.calibrations} times" if self.calibrations > 1 else ""
        charge(ledger, f"calibration on {images} images{times}", self.calibrations * images * forward)
        if self.validations:
            cost = self.validations * len(self.work.data.validation.images) * forward
            charge(ledger, f"validation of {self.validations} networks", cost)


def make_quantized(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Static INT8, calibrated on images that were learnt from, or trained for."""
    stage = unit.stage
    assert isinstance(stage, QuantizeStage) and unit.parent
    network = load_variant(work.folder(unit.parent))
    model, preprocess = network.model, network.preprocess
    if stage.training:
        made, scheme, ledger = train_aware(work, unit, folder, model, network.architecture)
        about: Metrics = {"method": stage.method, "observer": None, "keep": list(scheme.keep), "aware": True}
        _write(work, unit, folder, network, made, scheme, ledger, about)
        return
    job = Quantizing.of(work, stage, model, preprocess)
    made, found = (job.without(()), {}) if stage.keep_accuracy is None else _held(job, stage.keep_accuracy)
    keep = [*job.scheme.keep, *found.get("keep_found", ())]
    ledger = new_ledger(work.metrics(unit.parent)["training"])
    job.charge(ledger, macs(model, preprocess.resolution))
    about = {
        "method": stage.method,
        "linear_weight_bits": stage.linear_weight_bits,
        "observer": job.scheme.observer,
        "calibration_images": sum(map(len, job.images)),
        "keep": keep,
        **found,
    }
    scheme = replace(job.scheme, keep=tuple(keep))
    _write(work, unit, folder, network, made, scheme, ledger, about)


def _write(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    network: Network,
    made: Quantized,
    scheme: QuantizationConfig,
    ledger: Metrics,
    about: Metrics,
) -> None:
    """Store a quantized network, and measure it."""
    model, preprocess = network.model, network.preprocess
    size = save_quantized(folder, network, made.network, scheme, about["method"])
    counted = count(model, preprocess.resolution)
    inference = {
        "macs": counted.macs,
        "bit_operations": bit_operations(counted.layers, made.layers),
        "uncounted_operators": sorted(counted.uncounted),
        "params": parameters(model),
        "bytes": size,
        "weight_bits": min(weight for weight, _ in made.layers.values()),
        "activation_bits": min(activation for _, activation in made.layers.values()),
        "widths": widths(model, counted.layers, made.layers),
        "quantized_convs": made.convolutions[0],
        "total_convs": made.convolutions[1],
    }
    logits = test_logits(made.network, preprocess, work.data.test, unit.id)
    write_variant(folder, work, logits, inference, ledger, quantization=about)


def _held(job: Quantizing, allowed: float) -> tuple[Quantized, Metrics]:
    """The quantized network that loses no more than `allowed` on validation, and how it was found."""
    labels = job.work.data.validation.labels
    assert labels is not None
    answers, right = job.logits(job.model), torch.from_numpy(np.array(labels))
    found = search_mixed_precision(job.without, job.logits, right, answers, allowed)
    if found.keep:
        say(f"  {job.stage.id}: in float for the accuracy: {', '.join(found.keep)}")
    trials = [asdict(trial) for trial in found.trials]
    return found.quantized, {"keep_found": list(found.keep), "sensitivity": found.sensitivity, "trials": trials}


def _calibration(work: StageContext, stage: QuantizeStage) -> list[np.ndarray]:
    """Images of the calibration in batches, uint8."""
    images = getattr(work.data, stage.calibrate_on).images
    seed = work.recipe.seed if stage.calibration_seed is None else stage.calibration_seed
    chosen = np.random.default_rng(seed).permutation(len(images))[: stage.calibration_images]
    return [images[np.sort(part)] for part in parts(chosen, 64)]
