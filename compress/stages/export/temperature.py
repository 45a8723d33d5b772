"""Temperature scaling of exported files: fitted on validation, folded into the last layer before the file is written.

A temperature belongs to a network. The variant's own is fitted on its logits in PyTorch, which for a quantized network
simulate the integers of its files. A file that a runtime quantizes by another method has other integers: it is written
once, fitted on its own logits in its runtime, and written again with the temperature in the float network that it is
made from. Quantization scales follow, so that the integers are the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.artifact import load_classifier
from compress.deployment.runtimes import find_runtime
from compress.efficiency.temperature import fit_temperature
from compress.measurement.predict import Logits, predict_split_in_runtime, split_batches
from compress.stages.export.fold_temperature import divide_logits, require_foldable
from compress.stages.export.logits import BATCH
from compress.utils.console import say
from compress.utils.errors import CompressError

EXAMPLES = 8  # images that the folded network is checked on


def fold_temperature(model: nn.Module, logits: Logits, images: tuple[Split, Preprocess], what: str) -> float | None:
    """Fit a temperature and divide the logits of a network by it, in place.

    Args:
        model: The network.
        logits: Validation logits `[images, classes]` of it, or of what was made of it.
        images: The validation images and their preprocessing.
        what: Name of the network in messages.

    Returns:
        The temperature; None, and the network as it was, where NLL on these images has no minimum.

    Raises:
        CompressError: logits are not finite, or the network does not end in a linear layer.
    """
    split, preprocess = images
    if not np.isfinite(logits).all():
        raise CompressError(f"{what}: non-finite logits on the validation split; leave temperature_scaling out")
    if (temperature := fit_temperature(logits, np.asarray(split.labels))) is None:
        require_foldable(model, examples(split, preprocess))  # two images of a dry run may have no minimum
        say(f"  {what}: no temperature fits: too few of {len(split)} validation images are wrong, or too many")
        return None
    divide_logits(model, temperature, examples(split, preprocess))
    say(f"  {what}: logits divided by {temperature:.3f}, fitted on {len(split)} validation images")
    return temperature


def examples(split: Split, preprocess: Preprocess) -> Tensor:
    """Return a few images as a network takes them."""
    rows = np.arange(min(EXAMPLES, len(split)))
    return next(iter(split_batches(split, preprocess, EXAMPLES, rows)))


def logits_in_runtime(runtime: str, path: Path, images: tuple[Split, Preprocess]) -> Logits | None:
    """Return the validation logits of a file in its runtime; None if that does not run here."""
    engine = find_runtime(runtime)
    if engine.runs_on:
        return None
    split, preprocess = images
    return predict_split_in_runtime(load_classifier(engine, path), preprocess, split, BATCH)
