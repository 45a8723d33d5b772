"""A stand-in for TensorRT 10's Python package, for machines without a GPU: its engines are run by ONNX Runtime.

It has the names, arguments and return values of the calls that `compress.deployment.tensorrt_engine` makes, as the
signatures of the package's bindings 10.13 state them, and its rules: parsing and building report failure by their
return value and the logger, tensors are addresses, shapes are set before a run, a batch has to be within the profile.
"""

from __future__ import annotations

import ctypes
import json
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

__version__ = "10.13.3.9"
UNKNOWN = ("Det",)  # operators


class NetworkDefinitionCreationFlag(IntEnum):
    STRONGLY_TYPED = 1


class BuilderFlag(Enum):
    TF32 = "tf32"


class ProfilingVerbosity(Enum):
    LAYER_NAMES_ONLY = "names"
    DETAILED = "detailed"


class LayerInformationFormat(Enum):
    JSON = "json"


class TensorIOMode(Enum):
    INPUT = "input"
    OUTPUT = "output"


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class Definition:
    def __init__(self, flags: int) -> None:
        assert flags == 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED
        self.file = b""


class Profile:
    def set_shape(self, name: str, low: Any, usual: Any, high: Any) -> None:
        self.name, self.shapes = name, [list(low), list(usual), list(high)]


class Config:
    def __init__(self) -> None:
        self.flags, self.profiling_verbosity = {BuilderFlag.TF32}, ProfilingVerbosity.LAYER_NAMES_ONLY

    def add_optimization_profile(self, profile: Profile) -> int:
        self.profile = profile
        return 0

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.remove(flag)


class Builder:
    def __init__(self, logger: ILogger) -> None:
        self.logger: Any = logger

    def create_network(self, flags: int = 0) -> Definition:
        return Definition(flags)

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def create_builder_config(self) -> Config:
        return Config()

    def build_serialized_network(self, network: Definition, config: Config) -> memoryview | None:
        assert not config.flags, "TF32 is on unless it is cleared"
        if config.profile.shapes[2][2] > 512:
            self.logger.log(ILogger.WARNING, "a warning")
            self.logger.log(ILogger.ERROR, "[optimizer.cpp] Could not find any implementation\nfor node conv")
            return None
        head = {"profile": config.profile.shapes, "detailed": config.profiling_verbosity.value == "detailed"}
        return memoryview(json.dumps(head).encode() + b"\n" + network.file)


class ParserError:
    def __init__(self, text: str) -> None:
        self.text = text

    def desc(self) -> str:
        return self.text


class OnnxParser:
    def __init__(self, network: Definition, logger: ILogger) -> None:
        self.network, self.errors = network, list[ParserError]()

    def parse_from_file(self, model: str) -> bool:
        self.network.file = Path(model).read_bytes()
        strange = [node.op_type for node in onnx.load(model).graph.node if node.op_type in UNKNOWN]
        self.errors += [ParserError(f"no importer for {name}\nassertion failed") for name in strange]
        return not strange

    def get_error(self, index: int) -> ParserError:
        return self.errors[index]


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        self.shape: tuple[int, ...] | None = None

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self.engine.profile
        if not all(a <= b <= c for a, b, c in zip(low, shape, high, strict=True)):
            return False
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.shape, "a dynamic shape is -1 until the input's is set"
        return (self.shape[0], *self.engine.session.get_outputs()[0].shape[1:])

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self.shape is None:
            return False
        given, made = (self.engine.get_tensor_name(number) for number in range(2))
        images = _at(self.addresses[given], self.shape)
        logits = self.engine.session.run(None, {given: images})[0]
        _at(self.addresses[made], logits.shape)[:] = logits
        return True


class Inspector:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def get_engine_information(self, kind: LayerInformationFormat) -> str:
        graph = onnx.shape_inference.infer_shapes(self.engine.network).graph
        if not self.engine.detailed:
            return json.dumps({"Layers": [node.name for node in graph.node]})
        shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.value_info, *graph.output)}
        weights = {tensor.name: tensor for tensor in graph.initializer}
        stored = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "DequantizeLinear"}
        layers: list[dict[str, Any]] = [{"Name": "reformat", "LayerType": "Reformat"}]
        types = {1: "Float", 10: "Half", 3: "Int8"}
        for node in graph.node:
            if node.op_type != "Conv":
                continue
            weight = weights[stored.get(node.input[1], node.input[1])]
            dimensions = [dim.dim_value or -1 for dim in shapes[node.output[0]]]
            count = int(np.prod(weight.dims))
            layers.append(
                {
                    "Name": node.name,
                    "LayerType": "CaskConvolution",
                    "ParameterType": "Convolution",
                    "Outputs": [{"Dimensions": dimensions, "Format/Datatype": "Row major linear FP32"}],
                    "Weights": {"Type": types[weight.data_type], "Count": count},
                }
            )
        return json.dumps({"Layers": layers, "Bindings": ["images", "logits"]})


class Engine:
    def __init__(self, data: bytes) -> None:
        head, _, file = data.partition(b"\n")
        stated = json.loads(head)
        self.profile, self.detailed = stated["profile"], stated["detailed"]
        self.network, self.session = onnx.load_from_string(file), onnxruntime.InferenceSession(file)
        self.num_io_tensors = 2

    def get_tensor_name(self, index: int) -> str:
        ends = (self.session.get_inputs()[0], self.session.get_outputs()[0])
        return str(ends[index].name)

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == self.get_tensor_name(0) else TensorIOMode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[list[int]]:
        return self.profile  # type: ignore[no-any-return]

    def create_execution_context(self) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> Inspector:
        return Inspector(self)


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        self.logger: Any = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
        try:
            return Engine(serialized_engine)
        except Exception:
            self.logger.log(ILogger.ERROR, "[runtime.cpp] Serialization assertion magicTag failed")
            return None


def _at(address: int, shape: Any) -> Any:
    """The float32 array at an address."""
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
