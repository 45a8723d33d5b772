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
import json, re, sys
try:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import calibrator, qtyping, quantizer, recipe, recipe_manager
    from ai_edge_quantizer.utils import qsv_utils, tfl_flatbuffer_utils
    operations = qtyping.TFLOperationName
    layers = (operations.CONV_2D, operations.DEPTHWISE_CONV_2D, operations.FULLY_CONNECTED)
    path, images, target = sys.argv[1], np.load(sys.argv[2], mmap_mode="r"), sys.argv[3]
    work = quantizer.Quantizer(path, recipe.static_wi8_ai8())
    for end in () if sys.argv[6] == "integer" else (operations.INPUT, operations.OUTPUT):
        work.update_quantization_recipe(".*", end, algorithm_key="no_quantize")
    model, known = tfl_flatbuffer_utils.read_model(path), tfl_flatbuffer_utils.TFL_OP_CODE_TO_NAME
    found = [
        tfl_flatbuffer_utils.get_op_scope(operator, graph.tensors)
        for graph in model.subgraphs
        for operator in graph.operators
        if known.get(model.operatorCodes[operator.opcodeIndex].builtinCode) in layers
    ]
    for kept, scope in json.loads(sys.argv[4]).items():
        if not any(re.search(scope, name) for name in found):
            raise ValueError(f"no convolution or linear of the file is the layer {kept}, which is kept in float")
        for layer in layers:
            work.update_quantization_recipe(scope, layer, algorithm_key="no_quantize")
    (signature, names), = Interpreter(path).get_signature_list().items()
    (name,) = names["inputs"]
    recipes = recipe_manager.RecipeManager()
    recipes.load_quantization_recipe(work.get_quantization_recipe())
    update = {"mean": qsv_utils.moving_average_update, "minmax": qsv_utils.min_max_update}[sys.argv[5]]
    observer = calibrator.Calibrator(path, num_threads=1, qsv_update_func=update)
    observer.calibrate({signature: [{name: image[None]} for image in images]}, recipes)
    work.quantize(observer.get_model_qsvs()).export_model(target, overwrite=True)
except Exception as error:
    sys.exit((str(error).strip() or type(error).__name__).splitlines()[0])
"""


def quantize_litert(
    path: Path, batches: Sequence[Tensor], config: QuantizationConfig, python: str, environment: Mapping[str, str]
) -> None:
    """Quantize a float `.tflite` file in place: signed 8-bit activations, weights with a scale per channel.

    Images and logits stay float, so that the file is used like any other artifact, unless `integer_io` is asked for.

    Raises:
        CompressError: the quantizer fails, or the file has no operator of a layer to keep.
    """
    with tempfile.TemporaryDirectory() as work:
        images, made = Path(work) / "images.npy", Path(work) / "int8.tflite"
        np.save(images, np.concatenate([batch.numpy() for batch in batches]))
        scopes = json.dumps({name: _scope(name) for name in config.keep})
        observer = config.observer or "mean"
        command = [python, "-c", QUANTIZE, str(path), str(images), str(made), scopes, observer]
        command.append("integer" if config.integer_io else "float")
        convert(command, made, "ai-edge-quantizer", f"{path.name} cannot be quantized for LiteRT", environment)
        path.write_bytes(made.read_bytes())


def _scope(layer: str) -> str:
    """Return an expression that finds the operators of a layer of the float network by the names of their results.

    `layer1.0.conv1` is `...ResNet/...Sequential_layer1/...BasicBlock_0/...Conv2d_conv1;`.
    """
    return "(^|;)[^/;]*/" + "/".join(f"[^/;]*_{re.escape(part)}" for part in layer.split(".")) + ";"
