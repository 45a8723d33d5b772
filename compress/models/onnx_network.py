"""Networks that are an ONNX file: ONNX Runtime runs them, PyTorch does not."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.measurement.compute import Count
from compress.measurement.onnx_count import CONVOLUTION, LINEAR, PRODUCT, Layer, count_onnx, layers, stored_tensors
from compress.models.own_files import has_integer_activations
from compress.utils.boundaries import boundary
from compress.utils.errors import CompressError, first_line
from compress.utils.system import thread_count

if TYPE_CHECKING:
    from onnx import ModelProto

ONNX = "model.onnx"  # file of a stored network of this kind, beside its `architecture.json`


class OnnxNetwork(nn.Module):
    """Runs an ONNX file in ONNX Runtime on the CPU: images float32 `[b, 3, r, r]` to logits float32 `[b, classes]`."""

    def __init__(self, file: bytes) -> None:
        super().__init__()
        self.file = file
        self._session: Any = None

    @classmethod
    def read(cls, path: Path) -> OnnxNetwork:
        """Read a file; a `CompressError` if it cannot be read."""
        try:
            return cls(path.read_bytes())
        except OSError as error:
            raise CompressError(f"{path} cannot be read: {error.strerror}") from error

    def forward(self, images: Tensor) -> Tensor:
        pixels = np.ascontiguousarray(images.detach().cpu().numpy())
        with boundary("ONNX Runtime", "the ONNX file"):
            if self._session is None:
                self._session = session(self.file)
            logits = self._session.run(None, {self._session.get_inputs()[0].name: pixels})[0]
        return torch.from_numpy(logits).to(images.device)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_session": None}  # a session cannot be copied


class OnnxClassifier(OnnxNetwork):
    """An own network in an ONNX file, in the form that `compress.models.onnx_model.read_onnx` gives it.

    Its layers are modules with the file's weights, so that they are named, matched and counted like those of any
    network. The forward pass is the file's; the modules are never called.
    """

    def __init__(self, file: bytes) -> None:
        super().__init__(file)
        import onnx

        proto = onnx.load_from_string(file)
        found = layers(proto.graph)
        self.layer_names = {layer.node.name: layer.name for layer in found if layer.weight}  # names of layers by nodes
        self.attends = any(layer.weight is None for layer in found)  # whether it multiplies activations
        self.quantized = has_integer_activations(proto.graph)
        _add_modules(self, proto, found)
        self.requires_grad_(False).eval()

    def counted(self, resolution: int) -> Count:
        """Count the MACs of the forward pass for one image."""
        import onnx

        return count_onnx(onnx.load_from_string(self.file), resolution)


NO_PARAMETERS = {"BatchNormalization": 3, "QuantizeLinear": 1, "DequantizeLinear": 1}
"""Operators, and from which input on their stored tensors are not trained."""
EMPTY: dict[str, Callable[[], nn.Module]] = {
    CONVOLUTION: partial(nn.Conv2d, 1, 1, 1, device="meta"),
    LINEAR: partial(nn.Linear, 1, 1, device="meta"),
    PRODUCT: nn.Module,
}
"""Modules that stand for layers, by their kind; values are set afterwards."""


def _add_modules(network: nn.Module, proto: ModelProto, found: list[Layer]) -> None:
    """Add a module for each layer, and the other weights as parameters of the network itself.

    Statistics of batch norm, scales of integers and single numbers are buffers, so that parameters are counted as in
    PyTorch.
    """
    from onnx.numpy_helper import to_array

    tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
    origin = stored_tensors(proto.graph)
    for layer in found:
        module = _module(network, layer.name, layer.kind)
        names = {"weight": layer.weight, "bias": origin.get(layer.node.input[2]) if len(layer.node.input) > 2 else None}
        for key, name in names.items():
            if name in tensors and layer.kind != PRODUCT:
                module._parameters[key] = _parameter(to_array(tensors.pop(name)), _transposes(layer, key))
    statistics = {name for node in proto.graph.node for name in node.input[NO_PARAMETERS.get(node.op_type, 99) :]}
    for name, tensor in tensors.items():
        value = _parameter(to_array(tensor))
        is_weight = value.is_floating_point() and value.numel() > 1 and name not in statistics
        (network._parameters if is_weight else network._buffers)[name] = value


def _transposes(layer: Layer, key: str) -> bool:
    """Whether a stored weight is `[in, out]` instead of PyTorch's `[out, in]`."""
    rows = any(a.name == "transB" and a.i for a in layer.node.attribute)
    return key == "weight" and layer.kind == LINEAR and not rows


def _parameter(values: np.ndarray[Any, Any], transpose: bool = False) -> nn.Parameter:
    own = np.array(values.T if transpose else values, order="C")
    return nn.Parameter(torch.from_numpy(own), requires_grad=False)


def _module(network: nn.Module, name: str, kind: str) -> nn.Module:
    """Add a module without values under a dotted name; its parents are created."""
    *parents, last = [part for part in name.split(".") if part]
    parent = network
    for part in parents:
        parent = parent._modules.setdefault(part, nn.Module()) or parent
    made = EMPTY[kind]()
    made._parameters.clear()
    before = parent._modules.get(last)
    made._modules.update(before._modules if before else {})
    parent._modules[last] = made
    return made


def session(file: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = thread_count(None), 1  # it sees no CPU quota itself
    options.log_severity_level = 4  # errors are raised as well
    try:
        return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exception types are not public
        raise CompressError(f"ONNX Runtime cannot read the network: {first_line(error)}") from error
