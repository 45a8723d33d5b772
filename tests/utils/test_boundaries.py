"""Whatever a library raises on a person's network becomes one line with its name, the cause and a remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from compress.deployment.export import export
from compress.pruning.prunable import find_prunable
from compress.pruning.search import prune_channels
from compress.quantization.config import QuantizationConfig
from compress.quantization.ptq import quantize
from compress.quantization.qat import prepare_aware
from compress.recipe.channels import Channels
from compress.utils.boundaries import BOUNDARIES, MAX_MESSAGE, boundary
from compress.utils.errors import CompressError, UsageError

ERRORS = [
    ZeroDivisionError("integer modulo by zero"),
    IndexError("index 156 is out of bounds for dimension 0 with size 78"),
    KeyError("p.weight"),
    RuntimeError("Only Tensors created explicitly by the user support the deepcopy protocol at the moment\nat 0x7f"),
    AttributeError("'NoneType' object has no attribute 'shape'"),
    TypeError("unsupported operand"),
    AssertionError(),
    Exception("\x1b[31mred\x1b[0m"),
]
EXAMPLE = torch.zeros(2, 3, 16, 16)
PREPROCESS = {"resolution": 16, "classes": ["a", "b"]}


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU())
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2)).eval()


def quantized(method: str) -> None:
    quantize(network(), [torch.randn(4, 3, 16, 16)], EXAMPLE, method=method)


CALLS: list[tuple[str, str, Callable[[Path], object]]] = [
    (
        "torch-pruning",
        "torch_pruning.pruner.BasePruner",
        lambda _: prune_channels(network(), 16, Channels(target_macs=0.5)),
    ),
    (
        "torch-pruning",
        "torch_pruning.DependencyGraph",
        lambda _: find_prunable(network(), 16, Channels(target_macs=0.5)),
    ),
    ("torch-pruning", "copy.deepcopy", lambda _: prune_channels(network(), 16, Channels(target_macs=0.5))),
    ("torch.export", "torch.export.export", lambda _: quantized("torchao")),
    ("torchao", "torchao.quantization.pt2e.quantize_pt2e.prepare_pt2e", lambda _: quantized("torchao")),
    ("torchao", "torchao.quantization.pt2e.quantize_pt2e.convert_pt2e", lambda _: quantized("torchao")),
    (
        "torchao",
        "torchao.quantization.pt2e.quantize_pt2e.prepare_qat_pt2e",
        lambda _: prepare_aware(network(), EXAMPLE, QuantizationConfig(aware=True)),
    ),
    ("nncf", "nncf.quantize", lambda _: quantized("nncf")),
    ("onnxruntime", "onnxruntime.quantization.quantize_static", lambda _: quantized("onnxruntime")),
    ("openvino", "openvino.save_model", lambda path: export(network(), path, ["openvino"], PREPROCESS)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("name", BOUNDARIES)
def test_any_error_is_one_line_with_the_remedy(name: str, error: Exception) -> None:
    with pytest.raises(CompressError) as caught, boundary(name, "ShuffleNetV2"):
        raise error
    message = str(caught.value)
    assert message.startswith(f"ShuffleNetV2 cannot be {BOUNDARIES[name].failure}: ")
    assert message.endswith(f"; {BOUNDARIES[name].remedy}")
    assert message.isprintable() and len(message) <= MAX_MESSAGE
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (KeyError("p"), "KeyError: 'p'"),
        (ZeroDivisionError("integer modulo by zero"), "ZeroDivisionError: integer modulo by zero"),
        (ValueError("no such axis."), "no such axis"),
        (AssertionError(), "AssertionError"),
        (RuntimeError("x" * 500), "x" * 20),
        (AttributeError("'NoneType' object has no attribute 'shape'"), "internal AttributeError; "),
        (TypeError("<built-in function add>: <class 'int'> and <class 'str'>"), "internal TypeError; "),
        (RuntimeError("no rule for <Node object at 0x7f>"), "internal RuntimeError; "),
        (RecursionError("maximum recursion depth exceeded"), "internal RecursionError; "),
    ],
)
def test_the_type_is_named_where_the_message_says_little(error: Exception, cause: str) -> None:
    with pytest.raises(CompressError) as caught, boundary("torch-pruning", "Net"):
        raise error
    assert f"by torch-pruning: {cause}" in str(caught.value)


def test_the_last_line_of_openvino_is_its_reason() -> None:
    with pytest.raises(CompressError, match="OpenVINO: unsupported operation; remove"), boundary("openvino", "Net"):
        raise RuntimeError("Check failed at src/core/node.cpp:12\nunsupported operation")


@pytest.mark.parametrize("error", [MemoryError(), OSError(28, "No space left on device"), UsageError("ours")])
def test_errors_of_the_system_and_our_own_stay(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, boundary("torchao", "Net"):
        raise error
    assert caught.value is error


def test_a_quantizer_of_a_plugin_has_a_boundary_too() -> None:
    message = "Net cannot be quantized by own: KeyError: 1; choose another `method`"
    with pytest.raises(CompressError, match=message), boundary("own", "Net"):
        raise KeyError(1)


@pytest.mark.parametrize("error", [KeyError("p"), RuntimeError("deepcopy protocol")], ids=["KeyError", "RuntimeError"])
@pytest.mark.parametrize(("name", "target", "call"), CALLS, ids=[target for _, target, _ in CALLS])
def test_each_call_of_a_library_is_inside_its_boundary(
    name: str,
    target: str,
    call: Callable[[Path], object],
    error: Exception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip(target.partition(".")[0])

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(target, fails)
    with pytest.raises(CompressError) as caught:
        call(tmp_path)
    message = str(caught.value)
    assert f" cannot be {BOUNDARIES[name].failure}: " in message and message.endswith(BOUNDARIES[name].remedy), message
