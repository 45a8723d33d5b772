"""The device of a run: chosen once by `trainer.accelerator`, and what every forward pass on it has in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.fx import GraphModule, Node

from compress.utils.errors import UsageError

if TYPE_CHECKING:
    from torch.fx.node import Argument

    from compress.recipe.schema import Trainer

CPU = torch.device("cpu")
NAMES = {"cuda": "CUDA", "mps": "MPS", "xpu": "XPU"}
"""Kinds of device besides the CPU, in the order in which `auto` takes them, as people write them."""


def choose_device(trainer: Trainer) -> torch.device:
    """Return the device of a recipe: the first of `choose_devices`."""
    return choose_devices(trainer)[0]


def choose_devices(trainer: Trainer) -> list[torch.device]:
    """Return the devices of a recipe on this machine: `trainer.devices` of the kind `trainer.accelerator`, or the CPU.

    `auto` is the first kind that torch finds of CUDA, MPS and XPU, and the CPU where it finds none; `gpu` is the same
    without the CPU.

    Raises:
        UsageError: torch finds no device of this kind, or not as many as the recipe wants, or the recipe asks of the
            CPU what only a GPU has.
    """
    wanted = trainer.accelerator
    kinds = [] if wanted == "cpu" else [wanted] if wanted in NAMES else list(NAMES)
    kind = next((kind for kind in kinds if _count(kind)), None)
    if kind is None:
        if wanted in ("auto", "cpu"):
            _refuse_on_cpu(trainer)
            return [CPU]
        raise UsageError(
            f"trainer.accelerator: torch {torch.__version__} finds no {NAMES.get(wanted, 'GPU')} device here; set "
            "`accelerator: auto`, which takes the CPU then, or install its driver and a torch for it"
        )
    return [torch.device(kind, number) for number in _numbers(trainer, kind)]


def with_devices(trainer: Trainer) -> Trainer:
    """Replace `devices: auto` by the number of devices here, if it is found; the store keys have `auto`."""
    if trainer.devices != "auto":
        return trainer
    try:
        return trainer.model_copy(update={"devices": len(choose_devices(trainer))})
    except UsageError:  # reported where they are needed
        return trainer


def _refuse_on_cpu(trainer: Trainer) -> None:
    why = "trainer.accelerator is cpu" if trainer.accelerator == "cpu" else "torch finds no GPU here"
    if isinstance(trainer.devices, list):
        raise UsageError(f"trainer.devices: {trainer.devices} are numbers of GPUs, and {why}; set `devices: 1`")
    if trainer.precision == "16-mixed":  # Lightning would train in bf16
        raise UsageError(
            f"trainer.precision: 16-mixed needs a GPU, and {why}; set `precision: auto`, which takes the fastest format"
        )


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters and buffers; the CPU for one without."""
    return next((value.device for value in chain(network.parameters(), network.buffers())), CPU)


def describe(device: torch.device) -> str:
    """Name a device: `CPU`, or `cuda:0, NVIDIA H200`."""
    if device.type == "cpu":
        return "CPU"
    return f"{device}, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def computes_half(device: torch.device) -> dict[str, bool]:
    """Return whether the hardware computes in each half precision, rather than in FP32 what it widens."""
    if device.type == "cuda":
        return {"fp16": True, "bf16": torch.cuda.get_device_capability(device) >= (8, 0)}
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return {"fp16": False, "bf16": False}
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    kernels = torch.ops.mkldnn
    return {"fp16": kernels._is_mkldnn_fp16_supported(), "bf16": bool(bf16 and kernels._is_mkldnn_bf16_supported())}


@contextmanager
def on_device(network: nn.Module, device: torch.device) -> Iterator[nn.Module]:
    """Move a network to a device, and back to the CPU on exit; between stages, networks are on the CPU."""
    if device_of(network) == device:
        yield network
        return
    try:
        yield move(network, device)
    finally:
        move(network, CPU)


def move(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network to a device in place; also the devices that a captured graph names, which `.to` leaves."""
    with torch.inference_mode(False):  # parameters that moved in inference mode could never be trained again
        network.to(device)
    name_device(network, device)
    return network


def name_device(network: nn.Module, device: torch.device) -> None:
    """Replace the devices that operators of captured graphs name, such as those of `arange`, in a network."""
    for graph in (module for module in network.modules() if isinstance(module, GraphModule)):
        _name_device(graph, device)


@contextmanager
def forked_rng(device: torch.device) -> Iterator[None]:
    """Restore the states of the random generators of torch on exit: the CPU's, and that of `device` if it is CUDA."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # by default of all GPUs, with a warning
        yield


@contextmanager
def exact_float32(device: torch.device) -> Iterator[None]:
    """Compute in FP32 as written, and the same each time: no TF32, no autotuned or non-deterministic algorithms.

    For everything that is measured. On a CPU it changes nothing.
    """
    if device.type != "cuda":
        yield
        return
    with numerics(tf32=False, autotune=False, deterministic=True):
        yield


@contextmanager
def numerics(*, tf32: bool, autotune: bool, deterministic: bool) -> Iterator[None]:
    """Set how CUDA computes FP32 and chooses algorithms for convolutions, and restore it on exit.

    Args:
        tf32: Whether matrix products and convolutions may round their inputs to TF32.
        autotune: Whether cuDNN times its algorithms for each new shape, whose choice differs from run to run.
        deterministic: Whether cuDNN is limited to algorithms that give the same bits each time.
    """
    cudnn, matmul = torch.backends.cudnn, torch.get_float32_matmul_precision()
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    try:
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = tf32, autotune, deterministic
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


def _count(kind: str) -> int:
    if kind == "mps":
        return int(torch.backends.mps.is_available())
    backend = getattr(torch, kind)
    return int(backend.device_count()) if backend.is_available() else 0


def _numbers(trainer: Trainer, kind: str) -> list[int]:
    """Return the numbers of the devices of a recipe, and check that there are as many as it wants."""
    found, wanted = _count(kind), trainer.devices
    numbers = wanted if isinstance(wanted, list) else range(found if wanted == "auto" else wanted)
    lacking = [number for number in numbers if number >= found]
    if lacking or not numbers:
        devices = f"{found} {NAMES[kind]} device{'s' * (found != 1)}"
        raise UsageError(f"trainer.devices: {wanted} are requested, and torch finds {devices} here; request fewer")
    return list(numbers)


def _name_device(graph: GraphModule, device: torch.device) -> None:
    changed = False

    def replaced(value: Argument) -> Argument:
        nonlocal changed
        if isinstance(value, torch.device) and value != device:
            changed = True
            return device
        return value

    for node in graph.graph.nodes:
        assert isinstance(node, Node)
        if node.op == "call_function":
            node.args = tuple(map(replaced, node.args))
            node.kwargs = {name: replaced(value) for name, value in node.kwargs.items()}
    if changed:
        graph.recompile()
