"""Names of what can be added to the package -> where it lives.

One line per entry, `module` or `module:name`. No entry is imported until it is asked for, so every layer may read these
tables; plugins add to them through `compress.plugins`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from compress.utils.errors import UsageError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from compress.data.source import Source
    from compress.quantization.method import Method
    from compress.recipe.stage import StageSection


class RuntimeEntry(NamedTuple):
    """Where a runtime is defined, and which files it reads."""

    # `module:Class` of a subclass of `compress.deployment.runtime.Runtime`; plugins register the class itself
    where: str | type
    # endings of the files that it loads, so that the runtime of a file is known without importing any
    reads: tuple[str, ...]
    device: str | None = None  # execution provider or device; None for the CPU


_ONNX_RUNTIME = RuntimeEntry("compress.deployment.onnx_runtime:OnnxRuntime", (".onnx",))
_OPENVINO = RuntimeEntry("compress.deployment.open_vino:OpenVino", (".xml", ".onnx"))

PYTORCH = "pytorch"  # named as the runtime of a network itself, in eager PyTorch: the baseline of float variants

RUNTIMES: dict[str, RuntimeEntry] = {
    "onnxruntime": _ONNX_RUNTIME,
    "openvino": _OPENVINO,
    "ncnn": RuntimeEntry("compress.deployment.ncnn:Ncnn", (".ncnn.param",)),
    "inductor": RuntimeEntry("compress.deployment.inductor:Inductor", (".pt2",)),
    "executorch": RuntimeEntry("compress.deployment.executorch:ExecuTorch", (".pte",)),
    "litert": RuntimeEntry("compress.deployment.litert:LiteRt", (".tflite",)),
    "tensorrt": RuntimeEntry("compress.deployment.tensorrt:TensorRt", (".onnx",)),
    "coreml": RuntimeEntry("compress.deployment.coreml:CoreMl", (".mlpackage",)),
    "tensorrt-engine": RuntimeEntry("compress.deployment.tensorrt_engine:TensorRtEngine", (".engine",), "cuda"),
    "inductor-cuda": RuntimeEntry("compress.deployment.inductor:Inductor", (".pt2",), "cuda"),
    "onnxruntime-cuda": _ONNX_RUNTIME._replace(device="CUDAExecutionProvider"),
    "onnxruntime-tensorrt": _ONNX_RUNTIME._replace(device="TensorrtExecutionProvider"),
    "onnxruntime-coreml": _ONNX_RUNTIME._replace(device="CoreMLExecutionProvider"),
    "onnxruntime-qnn": _ONNX_RUNTIME._replace(device="QNNExecutionProvider"),
    "onnxruntime-openvino": _ONNX_RUNTIME._replace(device="OpenVINOExecutionProvider"),
    "openvino-gpu": _OPENVINO._replace(device="GPU"),
    "openvino-npu": _OPENVINO._replace(device="NPU"),
}
"""Runtimes by name. Of several that read a file, the first one is preferred."""
_PROCESSOR = (None, "OpenVINOExecutionProvider")  # devices of runtimes that are the processor

LOSSES = {
    "ce": "compress.training.losses.ce:CrossEntropy",
    "kd": "compress.training.losses.kd:Kd",
    "dkd": "compress.training.losses.dkd:Dkd",
    "dist": "compress.training.losses.dist:Dist",
    "embedding": "compress.training.losses.embedding:Embedding",
    "rkd_distance": "compress.training.losses.rkd:RkdDistance",
    "rkd_angle": "compress.training.losses.rkd:RkdAngle",
    "crd": "compress.training.losses.crd:Crd",
    "attention": "compress.training.losses.attention:Attention",
    "hint": "compress.training.losses.hint:Hint",
}
"""Class of each loss, in the order in which the objective sums them."""

PLUGIN_LOSSES: dict[str, Callable[..., Tensor]] = {}
"""Losses that plugins brought, by the name that a recipe gives under `losses.own`."""

STAGES: dict[str, str | type[StageSection]] = {
    "teacher": "compress.stages.teacher:TeacherStage",
    "model": "compress.stages.model:ModelStage",
    "train": "compress.stages.train:TrainStage",
    "distill": "compress.stages.distill:DistillStage",
    "prune": "compress.stages.prune:PruneStage",
    "shrink": "compress.stages.shrink:ShrinkStage",
    "match": "compress.stages.match:MatchStage",
    "sparsify": "compress.stages.sparsify:SparsifyStage",
    "quantize": "compress.stages.quantize:QuantizeStage",
    "export": "compress.stages.export:ExportStage",
}
"""Kinds of stage, in the order in which lists name them; plugins add classes."""

SOURCES = {
    "cifar10-sample": "compress.data.sample:SOURCE",
    "cifar10": "compress.data.torchvision_sets:SOURCE",
    "stl10": "compress.data.torchvision_sets:SOURCE",
    "fashion-mnist": "compress.data.torchvision_sets:SOURCE",
    "image-folder": "compress.data.folder:SOURCE",
    "csv": "compress.data.csv_file:SOURCE",
    "parquet": "compress.data.arrow:SOURCE",
    "hf-dataset": "compress.data.arrow:SOURCE",
    "webdataset": "compress.data.webdataset:SOURCE",
}
"""`compress.data.source.Source` of each `source` that the data section of a recipe can name."""


class TrackerEntry(NamedTuple):
    """Where an experiment tracker is defined, and what it needs."""

    where: str  # `module:Class` of a subclass of `compress.training.trackers.tracker.Tracker`
    modules: tuple[str, ...] = ()  # of which one has to be installed; empty: nothing besides Lightning
    install: str = ""  # command that installs it


TRACKERS = {
    "csv": TrackerEntry("compress.training.trackers.csv:Csv"),
    "tensorboard": TrackerEntry(
        "compress.training.trackers.tensorboard:TensorBoard", ("tensorboard", "tensorboardX"), "pip install tensorboard"
    ),
    "wandb": TrackerEntry("compress.training.trackers.wandb:Wandb", ("wandb",), "pip install 'compress-model[wandb]'"),
    "mlflow": TrackerEntry(
        "compress.training.trackers.mlflow:MLflow", ("mlflow",), "pip install 'compress-model[mlflow]'"
    ),
    "trackio": TrackerEntry(
        "compress.training.trackers.trackio:Trackio", ("trackio",), "pip install 'compress-model[trackio]'"
    ),
}
"""Experiment trackers that `--log` can name."""

QUANTIZERS = {
    "torchao": "compress.quantization.torchao_pt2e:METHOD",
    "nncf": "compress.quantization.nncf_onnx:METHOD",
    "onnxruntime": "compress.quantization.onnxruntime_static:METHOD",
    "xnnpack": "compress.quantization.xnnpack_pt2e:METHOD",
    "litert": "compress.quantization.litert_static:METHOD",
    "ncnn": "compress.quantization.ncnn_scales:METHOD",
}
"""`compress.quantization.method.Method` of each method of post-training quantization."""

OWN = f"{__package__}."
"""Start of the entries that are not a plugin's."""


def load_entry(entry: str) -> Any:
    """Import what an entry `module:name` of these tables stands for."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)


def runs_on_processor(runtime: str) -> bool:
    """Return whether the files of a runtime run on the processor; so do networks in PyTorch, which is no runtime."""
    return runtime not in RUNTIMES or RUNTIMES[runtime].device in _PROCESSOR


def source(name: str) -> Source:
    """Look up a data source; loads neither torch nor the packages that the source needs.

    Raises:
        KeyError: there is no such source.
        UsageError: a plugin registered it under an entry that cannot be imported.
    """
    try:
        record: Source = load_entry(SOURCES[name])
    except (ImportError, AttributeError) as error:
        if SOURCES[name].startswith(OWN):  # a package of ours is missing
            raise
        raise UsageError(f"data source {name!r}: {SOURCES[name]} cannot be imported: {first_line(error)}") from error
    return record


def quantizer(name: str) -> Method:
    """Look up a method of post-training quantization; loads neither torch nor what the method is made of."""
    method: Method = load_entry(QUANTIZERS[name])
    return method


def quantizers() -> dict[str, Method]:
    """All methods of post-training quantization, by name."""
    return {name: quantizer(name) for name in QUANTIZERS}
