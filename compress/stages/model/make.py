"""Make the variant of a `model` stage: load the network, store it and evaluate it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from compress.data.preprocess import Preprocess
from compress.measurement.accuracy import chance
from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import load_variant, save_variant
from compress.models.class_list import ClassList
from compress.models.class_names import other_classes, output_rows
from compress.models.heads import select_outputs
from compress.models.onnx_network import OnnxClassifier
from compress.models.own import load_own_model, names_classes
from compress.models.own_files import model_path, onnx_file, own_model_files, variant_folder
from compress.quantization.onnx_layers import layer_bits, quantized_convolutions
from compress.results import Inference, Ledger, VariantMetrics
from compress.stages.context import METRICS, StageContext
from compress.stages.evaluation import evaluate_stored, quantized_inference, with_fewer_products
from compress.stages.model import ModelStage
from compress.stages.planned import PlannedStage
from compress.utils.console import say
from compress.utils.errors import CompressError

MAX_TOP1 = 0.5
"""Upper end of the interval of an accuracy that is near chance; above, too few test images are the likely reason."""


def make_model(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Store the network as a variant and evaluate it."""
    stage = planned.stage
    assert isinstance(stage, ModelStage)
    if stage.model.source == "variant" and not onnx_file(stage.model):
        _copy(context, planned.id, variant_folder(model_path(stage.model)), own_model_files(stage.model), folder)
        return
    data = context.data
    network, notes = load_own_model(stage.model, context.recipe.data, data.classes, data.resolution)
    save_variant(folder, network)
    cost = _quantized_cost(network.model, network.preprocess) if stage.is_quantized else None
    evaluate_stored(context, planned.id, folder, Ledger.start(), cost, notes)
    low, high = VariantMetrics.read(folder / METRICS).accuracy.ci95
    if low <= chance(np.asarray(data.test.labels)) and high < MAX_TOP1 and not names_classes(stage.model):
        raise CompressError(
            f"{stage.model.model} is near chance on the test images ({low:.1%} to {high:.1%}), and nothing says which "
            "output is which class; set `classes` to its class names in the order of its outputs"
        )


def _quantized_cost(model: nn.Module, preprocess: Preprocess) -> Inference:
    """Return the inference cost of a quantized ONNX file."""
    assert isinstance(model, OnnxClassifier)
    import onnx

    proto = onnx.load_from_string(model.file)
    bits, convolutions = layer_bits(proto, model.layer_names), quantized_convolutions(proto)
    return quantized_inference(model, preprocess, bits, convolutions, len(model.file))


def _copy(context: StageContext, label: str, source: Path, files: list[Path], folder: Path) -> None:
    """Copy a stored variant with the cost of making it, and evaluate it on the data of this recipe."""
    cost = copy_for(context.data.classes, source, files, folder)
    before = VariantMetrics.read(source / METRICS)
    details = {name: getattr(before, name) for name in ("pruning", "sparsity", "quantization")}
    ledger = Ledger.start(before.training)
    inference = before.inference if cost else None
    architecture = Architecture.read(source)
    if not cost and architecture.quantization:  # an embedding student, whose class list alone is another one
        removed = ClassList.read(source).weight.size - ClassList.read(folder).weight.size
        inference = with_fewer_products(before.inference, removed)
    evaluate_stored(context, label, folder, ledger, inference, **{k: v for k, v in details.items() if v})


def copy_for(classes: Sequence[str], source: Path, files: Sequence[Path], folder: Path) -> bool:
    """Copy a variant with its outputs in the order of `classes`; return whether its cost is the same.

    Raises:
        CompressError: it is for other classes, or its outputs are in another order and its weights cannot be reordered.
    """
    architecture = Architecture.read(source)
    rows = output_rows(architecture.classes, classes)
    if rows is None:
        raise CompressError(f"{other_classes(str(source), architecture.classes, classes)}; name a variant for these")
    is_same, renamed = rows == list(range(len(architecture.classes))), architecture.classes != tuple(classes)
    if is_same or architecture.embedding:  # whose outputs are in a list of their own
        for file in files:
            shutil.copy(file, folder)
        if renamed:
            architecture.model_copy(update={"classes": tuple(classes)}).write(folder)
        if renamed and architecture.embedding:
            ClassList.read(source).select(rows, classes).write(folder)
        if not is_same:
            _say_kept(rows, architecture)
        return len(rows) == len(architecture.classes)
    if architecture.quantization or architecture.library == "onnx":
        raise CompressError(
            f"{source} has its outputs in another order than the data's classes, and they cannot be reordered in a "
            "quantized network or ONNX file; name its float variant, or give the data's classes in its order"
        )
    network = load_variant(source)
    select_outputs(network.model, rows)
    save_variant(folder, Network(network.model, architecture.model_copy(update={"classes": tuple(classes)})))
    _say_kept(rows, architecture)
    return len(rows) == len(architecture.classes)


def _say_kept(rows: Sequence[int], architecture: Architecture) -> None:
    say(f"  {len(rows)} of {len(architecture.classes)} outputs, put in the data's order by class name")
