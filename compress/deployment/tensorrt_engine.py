"""TensorRT engines, built and run by its Python package on this machine's GPU.

An engine goes with one kind of GPU and one version of TensorRT. `model.engine.json` beside it states them, since
TensorRT itself refuses another one with a line on its log only. Precisions are those of the ONNX file (a strongly typed
network), so that TensorRT chooses kernels and no precisions, and FP32 is FP32: TF32 is switched off.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from compress.deployment import gpu
from compress.deployment.coverage import Coverage
from compress.deployment.onnx_file import macs_by_weight
from compress.deployment.runtime import Array, ExportSource, Runner, Runtime, require_images
from compress.models.onnx_export import INPUT
from compress.utils.errors import CompressError, first_line
from compress.utils.system import version_of

INTEGER, HALF = ("Int8",), ("Half",)
"""Types of weights, as TensorRT's engine inspector names them."""
MIN_DESCRIBED = 0.99
"""Least share of the MACs in layers that the inspector describes; below it, the precisions are not known."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine was built from and for."""

    tensorrt: str  # version
    gpu: list[str]  # as `gpu.kind` describes it
    convs: int  # convolutions of the ONNX file
    macs: int | None  # of its convolutions and linears, for one image


class TensorRtEngine(Runtime):
    """TensorRT on this machine's NVIDIA GPU."""

    format = "tensorrt-engine"
    files = ("model.engine", "model.engine.json")
    reads = (".engine",)
    engine = "tensorrt"
    packages = ("onnx", "onnxscript", "torch", "tensorrt")
    install = "pip install tensorrt, with NVIDIA's driver and a PyTorch for CUDA"
    quantizers = ("torchao",)
    precisions = ("fp32", "fp16")
    target = "portable"
    from_onnx = True
    portable = False
    experimental = True

    def lacking(self) -> list[str]:
        """Name the GPU where there is none."""
        return gpu.lacking()

    def compiled_for(self) -> list[str]:
        """Describe the GPU, and the version of TensorRT."""
        return [*gpu.kind(), str(version_of(self.engine))]

    def build(self, source: ExportSource, folder: Path) -> Path:
        """Build `model.engine`, for batches of up to 32 images; takes from seconds to minutes."""
        import onnx

        from compress.deployment.tensorrt import check

        network = source.onnx()
        check(network)
        path = folder / self.files[0]
        path.write_bytes(build_engine(network, source.resolution))
        nodes = onnx.load(network, load_external_data=False).graph.node
        convolutions = sum(node.op_type == "Conv" for node in nodes)
        macs = sum(macs_by_weight(network)[0].values())
        info = EngineInfo(_tensorrt().__version__, gpu.kind(), convolutions, macs or None)
        _info_file(path).write_text(json.dumps(asdict(info), indent=1) + "\n", encoding="utf-8")
        return path

    def load(self, path: Path, threads: int | None = None) -> Runner:
        """Load an engine; the threads of the CPU are of no effect."""
        return _runner(path, _load(path))

    def coverage(self, path: Path) -> Coverage:
        """Count in what TensorRT's engine inspector says of its layers."""
        trt, info = _tensorrt(), _read_info(path)
        inspector = _load(path).create_engine_inspector()
        layers = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON)).get("Layers", [])
        return count_layers([layer for layer in layers if isinstance(layer, dict)], info)


def count_layers(layers: list[dict[str, Any]], info: EngineInfo) -> Coverage:
    """Count the layers that TensorRT's engine inspector describes in JSON, at the verbosity `DETAILED`.

    Each convolution has its outputs' `Dimensions` and the `Type` and `Count` of its weights
    (https://github.com/NVIDIA/TensorRT/issues/4020). Layers that it compiles in other ways it only names.
    """
    macs: dict[str, int] = {}
    integer = 0
    for layer in layers:
        found = _weights_and_macs(layer)
        if found is not None:
            kind, own = found
            macs[kind] = macs.get(kind, 0) + own
            integer += kind in INTEGER
    if not info.macs or sum(macs.values()) < MIN_DESCRIBED * info.macs:
        return Coverage(None, info.convs, None, info.macs, None)
    in_integer, in_half = (sum(macs.get(kind, 0) for kind in kinds) for kinds in (INTEGER, HALF))
    return Coverage(min(integer, info.convs), info.convs, in_integer, info.macs, in_half)


def _weights_and_macs(layer: dict[str, Any]) -> tuple[str, int] | None:
    """Type of the weights and MACs for one image of a layer; None for one that is not described as a convolution."""
    try:
        if layer["ParameterType"] != "Convolution":
            return None
        weights, sizes = layer["Weights"], layer["Outputs"][0]["Dimensions"]
        return str(weights["Type"]), int(weights["Count"]) * math.prod(sizes[2:])
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def _tensorrt() -> Any:
    import tensorrt

    if int(tensorrt.__version__.partition(".")[0]) < 10:
        raise CompressError(f"TensorRT {tensorrt.__version__} is too old, 10 is needed: pip install --upgrade tensorrt")
    return tensorrt


def _logger() -> Any:
    """Return the logger, which keeps errors that TensorRT states nowhere else, without those of earlier calls."""
    logger = _only_logger()
    logger.lines.clear()
    return logger


@cache
def _only_logger() -> Any:
    """TensorRT keeps the first logger of a process, and ignores others."""
    trt = _tensorrt()

    class Errors(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.lines: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.lines.append(message)

    return Errors()


def build_engine(network: Path, side: int) -> bytes:
    """Build the engine of an ONNX file for images of `side` pixels, as a strongly typed network."""
    from compress.deployment.tensorrt import BATCHES

    trt, logger = _tensorrt(), _logger()
    typed = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # the only kind from TensorRT 11 on
    try:
        builder = trt.Builder(logger)
        definition = builder.create_network(0 if typed is None else 1 << int(typed))
        parser = trt.OnnxParser(definition, logger)
        if not parser.parse_from_file(str(network)):
            raise CompressError(f"TensorRT cannot parse the network: {_line(parser.get_error(0).desc())}")
        profile = builder.create_optimization_profile()
        profile.set_shape(INPUT, *((batch, 3, side, side) for batch in BATCHES))
        config = builder.create_builder_config()
        config.add_optimization_profile(profile)
        config.clear_flag(trt.BuilderFlag.TF32)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # for `coverage`
        built = builder.build_serialized_network(definition, config)
    except CompressError:
        raise
    except Exception as error:  # of the binding, whose types are not public
        raise CompressError(f"TensorRT cannot build an engine: {_reason(logger, error)}") from error
    if built is None:
        raise CompressError(f"TensorRT cannot build an engine: {_reason(logger)}")
    return bytes(built)


def _info_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_info(path: Path) -> EngineInfo:
    try:
        values = json.loads(_info_file(path).read_text(encoding="utf-8"))
        return EngineInfo(**{**values, "gpu": list(map(str, values["gpu"])), "convs": int(values["convs"])})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _unreadable(path, f"{_info_file(path).name} beside it: {first_line(error)}") from error


def _load(path: Path) -> Any:
    """Return the engine in a file, if it is for this GPU and this TensorRT."""
    trt, logger, info = _tensorrt(), _logger(), _read_info(path)
    built_for, here = [*info.gpu, f"TensorRT {info.tensorrt}"], [*gpu.kind(), f"TensorRT {trt.__version__}"]
    if built_for != here:
        raise _unreadable(path, f"built for {', '.join(built_for)}, and here is {', '.join(here)}")
    try:
        engine = trt.Runtime(logger).deserialize_cuda_engine(path.read_bytes())
    except Exception as error:
        raise _unreadable(path, _reason(logger, error)) from error
    if engine is None:
        raise _unreadable(path, _reason(logger))
    return engine


def _runner(path: Path, engine: Any) -> Runner:
    """Return the function that runs an engine: images go to the GPU and logits come back, in each run."""
    import numpy as np
    import torch

    trt, stream = _tensorrt(), torch.cuda.Stream(gpu.DEVICE)  # type: ignore[no-untyped-call]
    context = engine.create_execution_context()
    if context is None:
        raise _unreadable(path, _reason(_only_logger()))
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    given = next(name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)
    (made,) = (name for name in names if name != given)
    largest, *shape = engine.get_tensor_profile_shape(given, 0)[2]

    def one(images: Any) -> Any:
        able = context.set_input_shape(given, tuple(images.shape))
        logits = torch.empty(tuple(context.get_tensor_shape(made)), device=gpu.DEVICE)
        able &= context.set_tensor_address(given, images.data_ptr())
        able &= context.set_tensor_address(made, logits.data_ptr())
        if not (able and context.execute_async_v3(stream.cuda_stream)):
            raise CompressError(f"TensorRT cannot run {path} on {len(images)} images: {_reason(_only_logger())}")
        return logits.cpu()

    def run(images: Array) -> Array:
        require_images(path, images, tuple(shape))
        with torch.inference_mode(), torch.cuda.stream(stream):
            batch = torch.from_numpy(np.ascontiguousarray(images)).to(gpu.DEVICE)
            return torch.cat([one(part.contiguous()) for part in torch.split(batch, largest)]).numpy()

    return run


def _reason(logger: Any, error: Exception | None = None) -> str:
    lines = logger.lines or ([str(error)] if error else ["no reason given"])
    return _line(lines[0])


def _line(text: str) -> str:
    return text.strip().split("\n")[0][:200]


def _unreadable(path: Path, reason: str) -> CompressError:
    return CompressError(f"TensorRT cannot read {path}: {reason}")
