"""A CUDA device that is pretended on a machine without one: CPU arithmetic, and the rules of two devices.

Tensors "on CUDA" are wrappers of CPU tensors, so that a whole run computes real numbers, backward passes included.
(`FakeTensorMode` cannot: its tensors have no values, and autograd asks the driver for their device.) As on a GPU,

- an operator of a CUDA and a CPU tensor raises, unless the CPU tensor is a single number, an index or copied;
- a CUDA tensor has no `numpy()`;
- modules move by `.to`, and what is created stays where it was created.

Streams, pinned memory and TF32 are not pretended: their calls are accepted and do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode, resolve_name
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
COPIES = ("aten::copy_", "aten::_to_copy", "aten::set_", "aten::equal")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")


class OnCuda(torch.Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnCuda:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            requires_grad=held.requires_grad,
        )
        made.held = held.detach()
        return made

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, torch.Tensor], _: None, size: Any, stride: Any) -> OnCuda:
        return OnCuda(inner["held"])

    def __repr__(self, **_: Any) -> str:
        return f"OnCuda({self.held!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        _refuse_two_devices(name, args, kwargs)
        target = kwargs.get("device")
        if "device" in kwargs:
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        held = tree_map_only(OnCuda, lambda tensor: tensor.held, (args, kwargs))
        out = func(*held[0], **held[1])
        if target is not None and torch.device(target).type == "cpu":
            return out
        if name == "aten::copy_" and not isinstance(args[0], OnCuda):
            return args[0]
        if name in ("aten::equal", "aten::_local_scalar_dense", "aten::is_same_size"):
            return out
        return return_and_correct_aliasing(func, args, kwargs, tree_map_only(torch.Tensor, OnCuda, out))


def _refuse_two_devices(name: str, args: Any, kwargs: Any) -> None:
    if name in COPIES:
        return
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if name in INDEXED and isinstance(args[0], OnCuda):
        tensors = [leaf for leaf in tree_leaves((args[0], args[2:], kwargs)) if isinstance(leaf, torch.Tensor)]
    if any(not isinstance(tensor, OnCuda) and tensor.dim() > 0 for tensor in tensors):
        raise RuntimeError(
            f"{name}: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
        )


def _wants_cuda(value: Any) -> bool:
    if isinstance(value, str) and value.partition(":")[0] == "cuda":
        return True
    return isinstance(value, torch.device) and value.type == "cuda"


class _Pretends(TorchFunctionMode):
    """Answers what Python asks of devices, before torch looks for a driver."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        first = args[0] if args else None
        name = getattr(func, "__name__", "")
        if name == "__get__":
            asked = (resolve_name(func) or "").split(".")[-2:-1] or [""]
            if isinstance(first, OnCuda) and asked[0] in ("device", "is_cuda", "is_cpu"):
                return {"device": CUDA, "is_cuda": True, "is_cpu": False}[asked[0]]
            return func(*args, **kwargs)
        if isinstance(first, torch.Tensor) and name in ("to", "cuda", "cpu"):
            return _moved(func, name, first, args[1:], kwargs)
        if name in ("pin_memory", "record_stream"):
            return first
        if name == "is_pinned":
            return False
        if name == "get_device":
            return 0 if isinstance(first, OnCuda) else -1
        if isinstance(first, OnCuda) and name in ("numpy", "__array__"):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if _wants_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
            return _on_cuda(func(*args, **kwargs))
        return func(*args, **kwargs)


def _moved(func: Any, name: str, tensor: torch.Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    target: Any = {"cuda": CUDA, "cpu": CPU}.get(name)
    rest = []
    for value in args:
        if name == "to" and isinstance(value, str | torch.device):
            target = torch.device(value)
        elif isinstance(value, torch.Tensor):
            target = CUDA if isinstance(value, OnCuda) else CPU
            kwargs.setdefault("dtype", value.dtype)
        elif isinstance(value, torch.dtype):
            rest.append(value)
    if kwargs.get("device") is not None:
        target = torch.device(kwargs["device"])
    kwargs.pop("device", None)
    kwargs.pop("non_blocking", None)
    to_cuda = isinstance(tensor, OnCuda) if target is None else target.type == "cuda"
    moved = tensor if isinstance(tensor, OnCuda) == to_cuda else _Copy.apply(tensor, to_cuda)
    return torch.Tensor.to(moved, *rest, **kwargs) if rest or kwargs else moved


class _Copy(torch.autograd.Function):
    """A copy between devices, whose gradient goes back."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, to_cuda: bool) -> torch.Tensor:
        ctx.was_on_cuda = isinstance(tensor, OnCuda)
        return OnCuda(tensor.detach().clone()) if to_cuda else tensor.held.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, None]:
        (grad,) = grads
        if ctx.was_on_cuda == isinstance(grad, OnCuda):
            return grad, None
        return (OnCuda(grad) if ctx.was_on_cuda else grad.held), None


def _on_cuda(out: Any) -> Any:
    return tree_map_only(torch.Tensor, lambda t: t if isinstance(t, OnCuda) else OnCuda(t), out)


class _Stream:
    def __init__(self, *_: Any) -> None:
        pass

    def record_event(self) -> _Stream:
        return self

    def wait_stream(self, _: _Stream) -> None:
        pass

    def is_capturing(self) -> bool:
        return False

    def synchronize(self) -> None:
        pass


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Pretend that this machine has one CUDA device, until exit."""
    calls: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_name": lambda *_: "pretended",
        "get_device_capability": lambda *_: (8, 0),
        "mem_get_info": lambda *_: (10**9, 10**9),
        "get_rng_state": lambda *_: torch.get_rng_state(),
        "Stream": _Stream,
        "current_stream": _Stream,
        "stream": lambda _: nullcontext(),
    }
    silent = ("set_device", "synchronize", "empty_cache", "reset_peak_memory_stats", "manual_seed_all", "manual_seed")
    silent = (*silent, "set_rng_state", "init", "_lazy_init")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name, call in {**calls, **dict.fromkeys(silent, lambda *_: None)}.items():
            patch.setattr(torch.cuda, name, call)
        patch.setattr(torch.accelerator, "current_stream", _Stream)
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
        patch.setattr(torch.Tensor, "record_stream", lambda self, _: None)
        swapped = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)  # keeps parameters the same objects, as CUDA does
        stack.callback(torch.__future__.set_swap_module_params_on_conversion, swapped)
        stack.enter_context(_Pretends())
        yield CUDA
