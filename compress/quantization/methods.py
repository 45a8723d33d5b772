"""The table of methods of post-training quantization; what it holds is known without importing any of them.

`torchao` quantizes the network as a PyTorch graph, of which every runtime's file is made. The others quantize its ONNX
file, and are for the runtimes that build from one. A new method is a file beside this one, and a line in `METHODS`.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from compress.utils.errors import CompressError


@dataclass(frozen=True)
class Method:
    """What is to know of a method before it is used.

    Attributes:
        module: The file that has it.
        packages: What must be importable.
        observers: What it has to find the range of an activation; its own default first.
        corrects: Whether it can correct biases and equalize layers.
        in_file: Whether what it makes is an ONNX file, in which linear layers can have weights of 4 bits.
        about: A line for a person.
    """

    module: str
    packages: tuple[str, ...]
    observers: tuple[str, ...]
    corrects: bool
    in_file: bool
    about: str


METHODS = {
    "torchao": Method(
        "compress.quantization.torchao_pt2e",
        ("torchao",),
        ("histogram", "minmax", "percentile"),
        False,
        False,
        "PT2E with the x86 quantizer, a PyTorch graph: for every runtime that takes quantized networks",
    ),
    "nncf": Method(
        "compress.quantization.nncf_onnx",
        ("nncf", "onnx", "onnxscript", "onnxruntime"),
        ("mean", "minmax", "histogram", "percentile"),
        True,
        True,
        "NNCF on the ONNX file, with bias correction and equalisation: made for OpenVINO",
    ),
    "onnxruntime": Method(
        "compress.quantization.onnxruntime_static",
        ("onnx", "onnxscript", "onnxruntime"),
        ("minmax", "entropy", "percentile"),
        False,
        True,
        "ONNX Runtime's static quantizer on the ONNX file",
    ),
}


def require_method(name: str) -> Method:
    """A method by name, with all that it needs.

    Raises:
        CompressError: a package is not installed; the message has the command that adds it.
    """
    method = METHODS[name]
    absent = [package for package in method.packages if importlib.util.find_spec(package) is None]
    if absent:
        add = "'compress-model[deploy]'" if method.in_file else "compress-model"
        raise CompressError(f"`method: {name}` needs {', '.join(absent)}: pip install {add}")
    return method
