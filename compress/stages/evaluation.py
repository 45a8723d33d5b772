"""Evaluation of the variants that stages make: accuracy and inference cost.

Both go to `metrics.json` in the variant's folder, its logits of the test split to `test_logits.npy` and those of
validation to `validation_logits.npy` (float32 `[images, classes]`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.fx import GraphModule

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess, describe
from compress.measurement.accuracy import accuracy_record, bits, chance
from compress.measurement.compute import FLOAT_BITS, Count, bit_operations, count, parameters
from compress.measurement.device import on_device
from compress.measurement.predict import Logits, predict_split
from compress.measurement.widths import widths
from compress.models.architecture import Network
from compress.models.checkpoints import WEIGHTS, load_variant, save_variant
from compress.models.class_list import ClassList
from compress.models.class_names import chance_warning
from compress.models.embedding import EmbeddingNetwork, encoder_of, logits_of
from compress.models.names import unpinned
from compress.models.onnx_network import ONNX, OnnxNetwork
from compress.results import Accuracy, Inference, LayerWidths, Ledger, VariantMetrics
from compress.results.embeddings import Embeddings
from compress.stages.context import METRICS, StageContext
from compress.stages.embeddings import embed_test, measure_embeddings
from compress.stages.existing import ExistingNetwork
from compress.training.formats import Format, choose_for_passes, with_layout
from compress.utils.console import say
from compress.utils.errors import CompressError

LOGITS = "test_logits.npy"
VALIDATION_LOGITS = "validation_logits.npy"
CLASS_LIST = "class list"  # among the layers of an embedding student


def float_inference(model: nn.Module, preprocess: Preprocess, size: int, classes: ClassList | None = None) -> Inference:
    """Return the inference cost of an FP32 network whose weights take `size` bytes; see `quantized_inference`."""
    counted = _counted(model, preprocess, classes)
    return Inference(
        macs=counted.macs,
        bit_operations=bit_operations(counted.layers, {}),
        uncounted_operators=tuple(sorted(counted.uncounted)),
        params=parameters(model),
        bytes=size,
        weight_bits=32,
        activation_bits=32,
        quantized_convs=0,
        total_convs=sum(isinstance(module, nn.Conv2d) for module in model.modules()),
    )


def quantized_inference(
    model: nn.Module,
    preprocess: Preprocess,
    bits: Mapping[str, tuple[int, int]],
    convolutions: tuple[int, int],
    size: int,
    classes: ClassList | None = None,
) -> Inference:
    """Return the inference cost of a quantized network.

    Args:
        model: The float network, or an ONNX file with its layers.
        preprocess: Its preprocessing.
        bits: (weight bits, activation bits) of the quantized layers, by their names in `model`.
        convolutions: Number of quantized convolutions, and of all.
        size: Bytes of the quantized weights.
        classes: Class list of an embedding student, whose product with the embeddings counts, in float.
    """
    counted = _counted(model, preprocess, classes)
    return Inference(
        macs=counted.macs,
        bit_operations=bit_operations(counted.layers, bits),
        uncounted_operators=tuple(sorted(counted.uncounted)),
        params=parameters(model),
        bytes=size,
        weight_bits=min((weight for weight, _ in bits.values()), default=FLOAT_BITS[0]),
        activation_bits=min((activation for _, activation in bits.values()), default=FLOAT_BITS[1]),
        widths=tuple(LayerWidths.model_validate(row) for row in widths(model, counted.layers, bits)),
        quantized_convs=convolutions[0],
        total_convs=convolutions[1],
    )


def with_fewer_products(inference: Inference, removed: int) -> Inference:
    """Return the cost of a quantized embedding student whose class list, which is in float, lost `removed` MACs."""
    macs = inference.macs - removed
    rows = []
    for row in inference.widths or ():
        in_float = row.kind == "linear" and (row.weight_bits, row.activation_bits) == FLOAT_BITS
        left = row.macs_share * inference.macs - (removed if in_float else 0)
        rows.append(row.model_copy(update={"macs_share": left / macs}))
    operations = inference.bit_operations - removed * math.prod(FLOAT_BITS)
    return inference.model_copy(update={"macs": macs, "bit_operations": operations, "widths": tuple(rows)})


def _counted(model: nn.Module, preprocess: Preprocess, classes: ClassList | None) -> Count:
    """Count the MACs of a network, and of the product of its embeddings with a class list, which is kept apart."""
    counted = count(model, preprocess.resolution)
    return counted if classes is None else replace(counted, layers={**counted.layers, CLASS_LIST: classes.weight.size})


def split_accuracy(logits: Logits, split: Split, name: str) -> Accuracy:
    """Return the accuracy of logits `[images, classes]` on a labelled split."""
    assert split.labels is not None
    return Accuracy.model_validate(accuracy_record(logits.argmax(1), np.asarray(split.labels), name))


def _with_bits(logits: Logits, validation: Split) -> Accuracy:
    """Return the accuracy on validation, with the correct images, by which the variants of a sweep are compared."""
    right = bits(logits.argmax(1) == np.asarray(validation.labels))
    return split_accuracy(logits, validation, "validation").model_copy(update={"right": right})


def store_network(
    context: StageContext,
    label: str,
    folder: Path,
    network: Network,
    ledger: Ledger,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Store a float network, load it back and evaluate it; `details`: `pruning` or `sparsity` of its metrics."""
    save_variant(folder, network)
    evaluate_stored(context, label, folder, ledger, None, notes, **details)


def evaluate_stored(
    context: StageContext,
    label: str,
    folder: Path,
    ledger: Ledger,
    inference: Inference | None = None,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Load the variant in `folder` and evaluate it; its cost of `inference` is that of a float network by default."""
    stored = load_variant(folder)
    if inference is None:
        weights = folder / (ONNX if isinstance(stored.model, OnnxNetwork) else WEIGHTS)
        inference = float_inference(stored.model, stored.preprocess, weights.stat().st_size, stored.classes)
    evaluate_and_store(
        context, label, folder, (stored.classifier, stored.preprocess), inference, ledger, notes, **details
    )


def evaluate_and_store(
    context: StageContext,
    label: str,
    folder: Path,
    classifier: tuple[nn.Module, Preprocess],
    inference: Inference,
    ledger: Ledger,
    notes: Sequence[str] = (),
    **details: object,
) -> None:
    """Evaluate a network on validation and test, and write `metrics.json` and `test_logits.npy`.

    Raises a `CompressError` if logits are not finite.
    """
    preprocess = classifier[1]
    logits, chosen, embeddings = _outputs(context, label, folder, classifier)
    if embeddings:
        details = {**details, "embeddings": embeddings}
    np.save(folder / LOGITS, logits)
    if chosen is not None:
        np.save(folder / VALIDATION_LOGITS, chosen)
    record = split_accuracy(logits, context.data.test, "test")
    stage = context.plan.stage(label).stage
    if stage.brings_network:
        say(f"  input: {describe(preprocess)}")
    unpinned_models = filter(None, (unpinned(*named) for named in stage.named_models()))
    remarks = [*notes, *unpinned_models, *_chance(context, label, record, ledger)]
    for remark in remarks:
        say(f"  {remark}")
    metrics = VariantMetrics.model_validate(
        {
            "preprocess": describe(preprocess),
            "remarks": tuple(remarks) or None,
            "accuracy": record,
            "validation": None if chosen is None else _with_bits(chosen, context.data.validation),
            "inference": inference,
            "training": ledger,
            **details,
        }
    )
    metrics.write(folder / METRICS)
    if inference.uncounted_operators:
        say(f"  operators not counted as MACs: {', '.join(inference.uncounted_operators)}")
    say(f"  top-1 on test {record.top1:.2%} ({record.correct} of {record.n})")


def _outputs(
    context: StageContext, label: str, folder: Path, classifier: tuple[nn.Module, Preprocess]
) -> tuple[Logits, Logits | None, Embeddings | None]:
    """Return logits of test and of validation, None without images, and the figures of an embedding student."""
    model, preprocess = classifier
    embeddings, chosen = None, None
    with on_device(model, context.device_for(model)):
        model.to(memory_format=_layout(context, label, model, preprocess))
        outputs = _predict(context, encoder_of(model), "test", preprocess, label)
        logits = logits_of(model, outputs)
        if not np.isfinite(logits).all():
            raise CompressError("non-finite logits on the test split; lower the learning rate or check the weights")
        if isinstance(model, EmbeddingNetwork):
            predict = partial(_predict, context, model.encoder, preprocess=preprocess, label=label)
            embedded = embed_test(context, predict, outputs)
            embeddings = measure_embeddings(context, label, folder, embedded, model.classes)
        if len(context.data.validation):
            chosen = logits_of(model, _predict(context, encoder_of(model), "validation", preprocess, label))
    return logits, chosen, embeddings


def _chance(context: StageContext, label: str, accuracy: Accuracy, ledger: Ledger) -> Iterator[str]:
    """Warn of a network that nothing was trained of and that is not shown to be above chance."""
    stage = context.plan.stage(label).stage
    if isinstance(stage, ExistingNetwork) and ledger.macs == 0:
        level, settings = chance(np.asarray(context.data.test.labels)), type(stage.network).model_fields
        warning = chance_warning("the network", accuracy, level, context.data.classes, settings)
        yield from [warning] if warning else []


def _layout(context: StageContext, label: str, model: nn.Module, preprocess: Preprocess) -> torch.memory_format:
    """Return the memory layout of the weights for evaluation, which is in FP32 whatever the training was in."""
    formats = [Format(channels_last=True), Format(channels_last=False)]
    if context.recipe.trainer.precision != "auto" or isinstance(encoder_of(model), GraphModule | OnnxNetwork):
        return formats[0].memory_format
    if isinstance(context.plan.stage(label).stage, ExistingNetwork):  # its key has no `trainer`
        return formats[0].memory_format
    batch = context.batch_size(context.device_for(model)).images
    shape, name = (batch, preprocess.resolution), f"evaluation of {label}"
    return choose_for_passes(
        context.chooser, model, "evaluation", shape, formats, name, with_layout
    ).format.memory_format


def _predict(context: StageContext, model: nn.Module, name: str, preprocess: Preprocess, label: str) -> Logits:
    split, preprocess = context.rendered(name, preprocess)
    return predict_split(
        model,
        preprocess,
        split,
        context.batch_size(context.device_for(model)),
        memory_format=torch.channels_last,
        progress=f"{label}: {name} images",
    )
