"""Multiply-accumulates (MACs) of networks; one MAC is one multiplication with its addition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

FLOAT_BITS = (32, 32)


def layer_macs(model: nn.Module, resolution: int) -> dict[str, int]:
    """Multiply-accumulates of the forward pass for one image, by layer.

    Convolutions (grouped and depthwise ones too), linears, matrix products and attention count; element-wise work does
    not. What a module computes itself, outside of its children, is counted under its own name.

    Args:
        model: A float network (quantized operators would count 0).
        resolution: Side of the image in pixels.
    """
    return {name: forward for name, (forward, _, _) in _count(model, resolution, torch.no_grad()).items()}


def macs(model: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of the forward pass for one image of `resolution` pixels a side."""
    return sum(layer_macs(model, resolution).values())


def training_macs(model: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of forward and backward pass for one image.

    Three times the forward pass: the gradients by the input and by the weight cost as much as the forward pass each.
    Less what is not computed: the first layer needs no gradient by its input, a frozen layer none by its weight.
    Counted by layer, not by running the backward pass, of which torch's counter makes too much for depthwise
    convolutions.
    """
    counted = _count(model, resolution, torch.enable_grad())
    return sum(forward + by_input + by_weight for forward, by_input, by_weight in counted.values())


def bit_operations(
    layers: Mapping[str, int],
    bits: Mapping[str, tuple[int, int]] | None = None,
    default: tuple[int, int] = FLOAT_BITS,
) -> int:
    """MACs x weight bits x activation bits, summed over the layers.

    Args:
        layers: MACs by layer, of `layer_macs`.
        bits: (weight bits, activation bits) by layer.
        default: The bits of layers that `bits` does not name.

    Raises:
        KeyError: `bits` names a layer that `layers` does not have.
    """
    bits = bits or {}
    unknown = sorted(set(bits) - set(layers))
    if unknown:
        raise KeyError(f"there are no MACs of the layer {unknown[0]}")
    total = 0
    for name, count in layers.items():
        weight, activation = bits.get(name, default)
        total += count * weight * activation
    return total


def parameters(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _count(model: nn.Module, resolution: int, gradients: Any) -> dict[str, list[int]]:
    """[forward, gradient by input, gradient by weight] of every layer, in MACs."""
    parameter = next(model.parameters(), None)
    shape = (1, 3, resolution, resolution)
    images = torch.zeros(shape) if parameter is None else parameter.detach().new_zeros(shape)
    with _evaluating(model), torch.inference_mode(False), gradients, _Counter(model) as counter:
        model(images)
    return dict(counter.counted)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the network into eval mode, and every module of it back into the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    # The fused transformer layer is one operator, which would count 0.
    torch.backends.mha.set_fastpath_enabled(False)
    model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes:
            module.training = training


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator for the innermost module that runs it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.model = model
        self.counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.running: list[tuple[str, bool, bool]] = []
        self.hooks: list[Any] = []

    def __enter__(self) -> _Counter:
        for name, module in self.model.named_modules():
            self.hooks.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
            self.hooks.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)  # type: ignore[no-untyped-call]
        for hook in self.hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func._overloadpacket)
        if formula is not None and self.running:
            name, by_input, by_weight = self.running[-1]
            forward = formula(*args, **(kwargs or {}), out_val=result) // 2
            for index, factor in enumerate((1, by_input, by_weight)):
                self.counted[name][index] += factor * forward
        return result

    def _entering(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            needs = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, kwargs)))
            held = [module, *(getattr(module, "parametrizations", None) or {}).values()]  # where masks put weights
            own = [parameter for holder in held for parameter in holder.parameters(recurse=False)]
            # A product of two activations has, in place of the weight, another input.
            trained = any(parameter.requires_grad for parameter in own) if own else needs
            self.running.append((name, needs, trained))

        return enter

    def _leave(self) -> None:
        self.running.pop()
