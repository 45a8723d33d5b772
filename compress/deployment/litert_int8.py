"""INT8 for LiteRT: ai-edge-quantizer on the float file, in the converter's environment."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compress.deployment.conversion import convert
from compress.quantization.config import QuantizationConfig

if TYPE_CHECKING:
    from torch import Tensor

QUANTIZE = """\
import json, sys
try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe
    path, images, target = sys.argv[1], np.load(sys.argv[2], mmap_mode="r"), sys.argv[3]
    work = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    for scope in json.loads(sys.argv[4]):
        work.update_quantization_recipe(scope, "*", algorithm_key="no_quantize")
    (signature, names), = Interpreter(path).get_signature_list().items()
    (name,) = names["inputs"]
    found = work.calibrate({signature: ({name: image[None]} for image in images)}, num_threads=1)
    work.quantize(found).export_model(target, overwrite=True)
except Exception as error:
    sys.exit((str(error).strip() or type(error).__name__).splitlines()[0])
"""


def quantize_litert(
    path: Path, batches: Sequence[Tensor], config: QuantizationConfig, python: str, environment: Mapping[str, str]
) -> None:
    """Quantize a float `.tflite` file in place: signed 8-bit activations, weights with a scale per channel.

    Raises:
        CompressError: the quantizer fails.
    """
    with tempfile.TemporaryDirectory() as work:
        images, made = Path(work) / "images.npy", Path(work) / "int8.tflite"
        np.save(images, np.concatenate([batch.numpy() for batch in batches]))
        scopes = json.dumps([_scope(name) for name in config.keep])
        command = [python, "-c", QUANTIZE, str(path), str(images), str(made), scopes]
        convert(command, made, "ai-edge-quantizer", f"{path.name} cannot be quantized for LiteRT", environment)
        path.write_bytes(made.read_bytes())


def _scope(layer: str) -> str:
    """Return an expression that finds the tensors of a layer of the float network."""
    return re.escape(layer)
