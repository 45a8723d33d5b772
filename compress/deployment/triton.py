"""Writing an artifact as a model of a Triton Inference Server repository.

Its parent folder is the argument of `tritonserver --model-repository`. The response cache answers a repeated request
without running the network; the server needs `--cache-config local,size=BYTES` for that.
Settings: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from compress.deployment.preprocess_file import PREPROCESS, PreprocessFile, gives_embeddings
from compress.models.onnx_export import INPUT, OUTPUT
from compress.utils.copying import copy_tree
from compress.utils.errors import CompressError, UsageError

BACKENDS = ("onnxruntime", "openvino")
"""Runtimes with a Triton backend of the same name; the first one is preferred: its batches may have any size."""

LABELS = "labels.txt"
PREFERRED_BATCHES = (8, 16, 32)

_CONFIG = """\
name: {name}
backend: {backend}
max_batch_size: {largest}
input [
  {{
    name: {input}
    data_type: TYPE_FP32
    dims: [ 3, {side}, {side} ]
  }}
]
output [
  {{
    name: {output}
    data_type: TYPE_FP32
    dims: [ {classes} ]
    label_filename: {labels}
  }}
]
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
}}
response_cache {{
  enable: true
}}
# Where the artifact was tested and timed.
instance_group [
  {{
    count: 1
    kind: KIND_CPU
  }}
]
"""


def write_triton(artifacts: Mapping[str, Path], folder: Path, preprocess: PreprocessFile) -> str:
    """Write `config.pbtxt`, `labels.txt`, `preprocess.json` and version 1 of a model; returns the runtime taken.

    Args:
        folder: The model's folder, which must not exist; its name is the model's.
        preprocess: As for `export`, with `classes`. Clients send preprocessed images.

    Raises:
        UsageError: Triton has no backend for any of the artifacts, or they give embeddings.
        CompressError: the name of a class does not fit on a line.
    """
    runtime = next((name for name in BACKENDS if name in artifacts), None)
    if runtime is None:
        raise UsageError(f"triton: true needs {' or '.join(BACKENDS)} among the runtimes")
    if gives_embeddings(artifacts[runtime].parent):
        raise UsageError(
            f"{artifacts[runtime]} gives embeddings, and models for Triton give logits; export it without `triton`"
        )
    classes = list(preprocess["classes"])
    check_labels(classes)
    copy_tree(artifacts[runtime].parent, folder / "1", leave_out=[PREPROCESS])
    shutil.copy(artifacts[runtime].parent / PREPROCESS, folder / PREPROCESS)
    (folder / LABELS).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    config = triton_config(folder.name, runtime, preprocess["resolution"], len(classes))
    (folder / "config.pbtxt").write_text(config, encoding="utf-8")
    return runtime


def check_labels(classes: Sequence[str]) -> None:
    """Raise a `CompressError` for a class name that does not fit on a line of Triton's file of labels."""
    unprintable = next((name for name in classes if name.splitlines() != [name]), None)
    if unprintable is not None:
        raise CompressError(f"the class name {unprintable!r} does not fit on a line of Triton's {LABELS}; rename it")


def triton_config(name: str, backend: str, resolution: int, classes: int) -> str:
    """Format a `config.pbtxt`: a ModelConfig in protobuf's text format."""
    return _CONFIG.format(
        name=json.dumps(name),
        backend=json.dumps(backend),
        largest=max(PREFERRED_BATCHES),
        input=json.dumps(INPUT),
        output=json.dumps(OUTPUT),
        side=resolution,
        classes=classes,
        labels=json.dumps(LABELS),
        preferred=", ".join(map(str, PREFERRED_BATCHES)),
    )
