"""Quantization-aware training of a `quantize` stage: by the teacher that the network descends from, else by labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from compress.models.architecture import Architecture
from compress.models.layers import layers_named
from compress.pipeline.plan import PlannedStage
from compress.quantization.capture import layer_bits, quantized_convolutions
from compress.quantization.checks import refuse_calibration
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.pt2e import convert
from compress.quantization.qat import Freeze, freeze, prepare_aware
from compress.recipe.schema import QuantizeStage
from compress.stages.context import Metrics, StageContext, parts
from compress.stages.fitting import fit_stage, new_ledger


def train_aware(
    work: StageContext, unit: PlannedStage, folder: Path, model: nn.Module, architecture: Architecture
) -> tuple[Quantized, QuantizationConfig, Metrics]:
    """Train a float network with integers simulated in it; returns it in INT8, how, and the training ledger."""
    stage = unit.stage
    assert isinstance(stage, QuantizeStage) and stage.training and unit.parent
    scheme = QuantizationConfig(
        reduce_range=stage.reduce_range, keep=tuple(layers_named(model, stage.keep)), aware=True
    )
    refuse_calibration(_some(work, stage), "train")
    side = architecture.resolution
    graph = prepare_aware(model, torch.zeros(2, 3, side, side), scheme)
    schedule = Freeze(stage.training.observers_until, stage.training.batch_norm_until)
    before = new_ledger(work.metrics(unit.parent)["training"])
    ledger = fit_stage(work, unit, folder, graph, architecture, stage.training, before, schedule)
    converted = convert(freeze(graph))
    return Quantized(converted, layer_bits(converted), quantized_convolutions(converted)), scheme, ledger


def _some(work: StageContext, stage: QuantizeStage) -> Iterator[Tensor]:
    """As many train images as a calibration would take, in batches."""
    images = work.data.train.images
    rows = np.random.default_rng(work.recipe.seed).permutation(len(images))[: stage.calibration_images]
    return (torch.from_numpy(images[np.sort(part)]).float() for part in parts(rows, 64))
