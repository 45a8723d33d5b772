"""ONNX exports of many small networks, without doing the same work in each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from torch import nn

    Write = Callable[[nn.Module, int, Path], None]


def remember_signatures() -> None:
    """Let onnxscript parse the source of its functions, which do not change, once and not at every export (0.5 s)."""
    with suppress(ImportError, AttributeError):  # in onnxscript's own modules, which other versions may not have
        from onnxscript._internal.values import TracedOnnxFunction

        read = TracedOnnxFunction.function_ir.fget
        if not hasattr(read, "cache_info"):
            TracedOnnxFunction.function_ir = property(cache(read))


def remembering(write: Write) -> Write:
    """`write_onnx` that exports the same module with the same weights once; a copy of it is exported again."""
    written: WeakKeyDictionary[nn.Module, dict[tuple[str, int], bytes]] = WeakKeyDictionary()

    def remembered(model: nn.Module, resolution: int, path: Path) -> None:
        files = written.setdefault(model, {})
        key = (_digest(model), resolution)
        if key not in files:
            write(model, resolution, path)
            files[key] = path.read_bytes()
        path.write_bytes(files[key])

    return remembered


def _digest(model: nn.Module) -> str:
    digest = sha256(f"{model} {model.training}".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()
