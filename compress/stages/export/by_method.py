"""Files of a quantized variant for runtimes whose method is not the variant's own, under `method: auto`.

Each is made from the float network that the variant was made from, with the variant's settings and calibration set.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.deployment.export import Target, export_files
from compress.deployment.preprocess_file import PreprocessFile
from compress.measurement.compute import macs
from compress.measurement.predict import Logits, split_batches
from compress.models.embedding import encoder_of, with_encoder
from compress.quantization.checks import refuse_broken_weights, refuse_calibration
from compress.quantization.ptq import quantize
from compress.registry import quantizer
from compress.stages.context import BATCH, StageContext
from compress.stages.evaluation import LOGITS
from compress.stages.export import ExportStage
from compress.stages.export.crashes import without_crashes
from compress.stages.export.temperature import fold_temperature, logits_in_runtime
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage
from compress.stages.quantize.make import calibration_set, config_of
from compress.utils.console import say
from compress.utils.errors import CompressError


class FloatParent:
    """The float network of a quantized variant, and how the variant was quantized."""

    def __init__(self, context: StageContext, variant: PlannedStage) -> None:
        assert isinstance(variant.stage, QuantizeStage) and variant.parent
        self._stage = variant.stage
        self._network = context.parent_network(variant.parent)
        record = context.metrics(variant.id).quantization
        self._keep = record.keep if record else ()
        self._images, self._preprocess = calibration_set(context, self._stage, self._network.preprocess)
        self._context, self._id = context, variant.id
        self._logits: Logits = np.load(context.folder(variant.parent) / LOGITS)
        self.temperatures: dict[str, float] = {}  # by method, that logits were divided by

    def expected(self, method: str) -> Logits:
        """Return the logits of the test images that files of a method approximate."""
        logits: Logits = self._logits / self.temperatures.get(method, 1.0)
        return logits

    @cached_property
    def _batches(self) -> list[Tensor]:
        """The calibration set, rendered once for all methods."""
        return list(split_batches(self._images, self._preprocess, BATCH))

    @property
    def calibration_macs(self) -> int:
        """MACs of one calibration."""
        return len(self._images) * macs(self._network.model, self._network.preprocess.resolution)

    def export(
        self,
        methods: Mapping[str, str],
        folder: Path,
        preprocess: PreprocessFile,
        failed: dict[Target, str],
        stage: ExportStage,
    ) -> dict[Target, Path]:
        """Write the files of runtimes by their methods, one calibration per method; see `export_files`."""
        built: dict[Target, Path] = {}
        for method in dict.fromkeys(methods.values()):
            runtimes = [name for name, own in methods.items() if own == method]
            say(f"  {', '.join(runtimes)}: quantized by {method}")
            try:
                targets, model = list(map(Target, runtimes)), self._network.classifier
                made = self._export_by(method, model, targets, folder, preprocess, failed, stage)
                made = without_crashes(self._id, made, failed)
                if made and stage.temperature_scaling and (scaled := self._scaled(method, made)):
                    made = self._export_by(method, scaled, list(made), folder, preprocess, failed, stage)
                built |= made
            except CompressError as error:
                failed |= dict.fromkeys(map(Target, runtimes), str(error))
        return built

    def _scaled(self, method: str, made: Mapping[Target, Path]) -> nn.Module | None:
        """Return the float network with the temperature of its files by a method, if one fits; see `temperature.py`."""
        model = copy.deepcopy(self._network.classifier)
        images = self._context.rendered("validation", self._network.preprocess)
        found = (logits_in_runtime(target.runtime, path, images) for target, path in made.items())
        logits = next((each for each in found if each is not None), None)
        if logits is None:
            logits = self._context.logits(model, "validation", self._network.preprocess)
        if (temperature := fold_temperature(model, logits, images, f"{self._id} by {method}")) is None:
            return None
        self.temperatures[method] = temperature
        return model

    def _export_by(
        self,
        method: str,
        model: nn.Module,
        targets: Sequence[Target],
        folder: Path,
        preprocess: PreprocessFile,
        failed: dict[Target, str],
        stage: ExportStage,
    ) -> dict[Target, Path]:
        config = replace(config_of(self._stage, method, self._keep), integer_io=stage.integer_io)
        batches, side = self._batches, preprocess["resolution"]
        if quantizer(method).calibrate is None:
            refuse_broken_weights(encoder_of(model))
            refuse_calibration(batches)
            return export_files(model, folder, targets, preprocess, failed, stage.options, (batches, config))
        with torch.inference_mode(False), torch.no_grad():
            encoder = encoder_of(model)
            network = quantize(encoder, batches, torch.zeros(2, 3, side, side), config, method).network
        return export_files(with_encoder(model, network), folder, targets, preprocess, failed, stage.options)
