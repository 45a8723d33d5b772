"""Quantization-aware training: by distillation if the network descends from a teacher, else on labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compress.models.architecture import Network
from compress.models.heads import layers_named
from compress.quantization.capture import layer_bits, quantized_convolutions
from compress.quantization.checks import refuse_calibration
from compress.quantization.config import QuantizationConfig
from compress.quantization.method import Quantized
from compress.quantization.pt2e import convert
from compress.quantization.qat import Freeze, freeze, prepare_aware
from compress.results import Ledger
from compress.stages.context import BATCH, StageContext
from compress.stages.fitting import fit_stage
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage


def train_aware(
    context: StageContext, planned: PlannedStage, folder: Path, network: Network, ledger: Ledger
) -> tuple[Quantized, QuantizationConfig, Ledger]:
    """Train a float network with fake quantization; returns it in INT8, its settings, and the charged ledger."""
    stage = planned.stage
    assert isinstance(stage, QuantizeStage) and stage.training
    keep = tuple(layers_named(network.model, stage.keep))
    config = QuantizationConfig(reduce_range=stage.reduce_range is not False, keep=keep, aware=True)
    refuse_calibration(_train_images(context, stage), "train")
    side = network.architecture.resolution
    graph = prepare_aware(network.model, torch.zeros(2, 3, side, side), config)
    callback = Freeze(stage.training.observers_until, stage.training.batch_norm_until)
    trained_network = replace(network, model=graph)
    ledger = fit_stage(context, planned, folder, trained_network, stage.training, ledger, callback)
    converted = convert(freeze(graph))
    return Quantized(converted, layer_bits(converted), quantized_convolutions(converted)), config, ledger


def _train_images(context: StageContext, stage: QuantizeStage) -> Iterator[Tensor]:
    """Yield batches of as many train images as a calibration set has."""
    images = context.data.train.images
    rows = np.random.default_rng(context.recipe.seed).permutation(len(images))[: stage.calibration_images]
    for start in range(0, len(rows), BATCH):
        yield torch.from_numpy(images[np.sort(rows[start : start + BATCH])]).float()
