"""A CUDA device that is pretended on a machine without one: CPU arithmetic, and the rules of two devices.

Tensors "on CUDA" are wrappers of CPU tensors, so that a whole run computes real numbers, backward passes included.
(`FakeTensorMode` cannot: its tensors have no values, and autograd asks the driver for their device.) As on a GPU,

- an operator of a CUDA and a CPU tensor raises, unless the CPU tensor is a single number, an index or copied;
- a CUDA tensor has no `numpy()`;
- modules move by `.to`, and what is created stays where it was created.

Streams, pinned memory and TF32 are not pretended: their calls are accepted and do nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.overrides import resolve_name
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from compress.measurement import device

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
ANSWERS: dict[str, Any] = {"device": CUDA, "is_cuda": True, "is_cpu": False}
FACTORIES = (
    *("arange", "as_tensor", "empty", "empty_strided", "eye", "full", "linspace", "ones", "rand", "randint", "randn"),
    *("randperm", "tensor", "zeros", "empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like"),
)
COPIES = ("aten::copy_", "aten::_to_copy", "aten::set_", "aten::equal")
INDEXED = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")


class OnCuda(torch.Tensor):
    """A tensor on the pretended device; `held` has its values."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> OnCuda:
        with torch.inference_mode(False):  # what is made of parameters in inference mode may be views of them
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
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Answer what Python asks of devices, before torch looks for a driver."""
        kwargs, first, name = dict(kwargs or {}), args[0] if args else None, getattr(func, "__name__", "")
        with torch._C.DisableTorchFunctionSubclass():
            if name == "__get__" and isinstance(first, OnCuda):
                asked = (resolve_name(func) or "").split(".")[-2:-1]
                return ANSWERS[asked[0]] if asked and asked[0] in ANSWERS else func(*args, **kwargs)
            if name == "get_device":
                return 0
            if name == "tolist":
                return first.held.tolist()  # type: ignore[union-attr]
            if name in ("numpy", "__array__"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
            if name == "one_hot":  # creates a tensor in C++, where the device of a wrapper is another
                return OnCuda(func(first.held, *args[1:], **kwargs))  # type: ignore[union-attr]
            if kwargs.get("device") is not None:
                on_cuda = _wants_cuda(kwargs.pop("device"))
                return _moved_all(func(*args, **kwargs), on_cuda)
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name
        _refuse_two_devices(name, args, kwargs)
        if "device" in kwargs:  # in C++, the device of a wrapper is that of what it holds
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        held = _held((args, kwargs))
        out = func(*held[0], **held[1])
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


def _factory(create: Any) -> Any:
    """Return a function of torch that creates tensors, which can do so on the pretended device."""

    @functools.wraps(create)
    def created(*args: Any, **kwargs: Any) -> Any:
        if not _wants_cuda(kwargs.get("device")):
            return create(*args, **kwargs)
        kwargs["device"] = CPU
        return _moved_all(create(*_held(args), **kwargs), True)

    return created


def _mover(name: str, move: Any) -> Any:
    """Return `Tensor.to`, `cpu` or `cuda` that moves between the CPU and the pretended device."""

    @functools.wraps(move)
    def moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        target: Any = {"cuda": CUDA, "cpu": CPU}.get(name) or kwargs.get("device")
        targets = [value for value in args if isinstance(value, str | torch.device | torch.Tensor)]
        if targets and name == "to":
            target = targets[0].device if isinstance(targets[0], torch.Tensor) else torch.device(targets[0])
        if not isinstance(tensor, OnCuda) and not _wants_cuda(target):
            return move(tensor, *args, **kwargs)  # type: ignore[no-any-return]
        to_cuda = isinstance(tensor, OnCuda) if target is None else _wants_cuda(target)
        there = tensor if isinstance(tensor, OnCuda) == to_cuda else _Copy.apply(tensor, to_cuda)
        types = [value.dtype if isinstance(value, torch.Tensor) else value for value in args]
        rest = [value for value in types if isinstance(value, torch.dtype)]
        named = {key: value for key, value in kwargs.items() if key in ("dtype", "memory_format", "copy")}
        return to(there, *rest, **named) if rest or named else there  # type: ignore[no-any-return]

    to = torch.Tensor.to if name != "to" else move
    return moved


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


def _held(value: Any) -> Any:
    return tree_map_only(OnCuda, lambda tensor: tensor.held, value)


def _moved_all(out: Any, to_cuda: bool) -> Any:
    def moved(tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, OnCuda) == to_cuda:
            return tensor
        return OnCuda(tensor) if to_cuda else tensor.held

    return tree_map_only(torch.Tensor, moved, out)


def _apply(module: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
    """Apply a function to all tensors of a module, whose parameters stay the same objects, as they do on a GPU."""
    for child in module.children() if recurse else ():
        _apply(child, fn)
    for name, parameter in module._parameters.items():
        if parameter is None:
            continue
        with torch.no_grad():
            applied, grad = fn(parameter), None if parameter.grad is None else fn(parameter.grad)
        if applied is parameter:
            continue
        parameter.grad = None
        made = nn.Parameter(applied.detach(), parameter.requires_grad)
        try:
            torch.utils.swap_tensors(parameter, made)
        except RuntimeError:  # something holds the tensor, which a wrapper cannot be exchanged in
            module._parameters[name] = made
        module._parameters[name].grad = grad  # type: ignore[union-attr]
    for name, buffer in module._buffers.items():
        module._buffers[name] = None if buffer is None else fn(buffer)
    return module


class _Stream:
    def __init__(self, *_: Any) -> None:
        pass

    def record_event(self) -> _Stream:
        return self

    def wait_stream(self, _: _Stream) -> None:
        pass

    def synchronize(self) -> None:
        pass


@contextmanager
def pretended_cuda() -> Iterator[torch.device]:
    """Pretend that this machine has one CUDA device, until exit."""
    calls: dict[str, Any] = {
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_available": lambda: False,  # else exporters and torchao would look for more of a GPU
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
    with pytest.MonkeyPatch.context() as patch:
        for name, call in {**calls, **dict.fromkeys(silent, lambda *_: None)}.items():
            patch.setattr(torch.cuda, name, call)
        patch.setattr(device, "_count", lambda kind: int(kind == "cuda"))
        patch.setattr(torch.optim.Optimizer, "_accelerator_graph_capture_health_check", lambda _: None, raising=False)
        for name in FACTORIES:
            patch.setattr(torch, name, _factory(getattr(torch, name)))
        for name in ("cuda", "cpu", "to"):
            patch.setattr(torch.Tensor, name, _mover(name, getattr(torch.Tensor, name)))
        patch.setattr(torch.Tensor, "pin_memory", lambda self, *_: self)
        patch.setattr(torch.Tensor, "record_stream", lambda self, _: None)
        patch.setattr(nn.Module, "_apply", _apply)
        yield CUDA
