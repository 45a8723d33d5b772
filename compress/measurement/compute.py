"""Multiply-accumulates (MACs) of networks; one MAC is one multiplication with its addition."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from compress.measurement.operators import is_cheap, is_quantized, known, listed, multiplied, packet
from compress.utils.errors import CompressError, CompressWarning

WITH_WEIGHTS = ("convolution", "addmm", "mm")  # what convolutions and linears come down to
FLOAT_BITS = (32, 32)


@dataclass(frozen=True)
class Count:
    """What one image's forward pass multiplies.

    Attributes:
        layers: MACs by layer. What a module computes itself, outside of its children, is under its own name.
        operators: MACs by operator ("aten.convolution"), of the same sum.
        uncounted: Calls by operator of what is not known to be cheap and has no formula: `layers` is without them.
    """

    layers: dict[str, int]
    operators: dict[str, int]
    uncounted: dict[str, int]

    @property
    def macs(self) -> int:
        """MACs of the whole forward pass."""
        return sum(self.layers.values())


def count(model: nn.Module, resolution: int) -> Count:
    """Count the forward pass for one image.

    Convolutions (grouped and depthwise ones too), linears, matrix products and attention have MACs; element-wise work,
    normalisation, pooling and biases have none. Weights that are zero count. Graphs in which quantization is simulated
    (PT2E's) are counted like float networks.

    Args:
        model: A float network, whose own shapes count: after pruning, the ones that are left.
        resolution: Side of the image in pixels.

    Raises:
        CompressError: the network computes with integers or is frozen TorchScript, of which the count would be
            nothing or a part.
    """
    counter = _count(model, resolution, torch.no_grad())
    layers = {name: forward for name, (forward, _, _) in counter.counted.items()}
    return Count(layers, dict(counter.operators), dict(counter.uncounted))


def layer_macs(model: nn.Module, resolution: int) -> dict[str, int]:
    """Multiply-accumulates of the forward pass for one image by layer: see `count`.

    Warns of operators that are not counted, by name; raises as `count` does.
    """
    counted = count(model, resolution)
    _warn(counted.uncounted)
    return counted.layers


def macs(model: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of the forward pass for one image of `resolution` pixels a side; warns as `layer_macs`."""
    return sum(layer_macs(model, resolution).values())


def weight_macs(model: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of one image's convolutions and linears alone, without products of two activations."""
    counted = count(model, resolution).operators
    return sum(counted.get(f"aten.{name}", 0) for name in WITH_WEIGHTS)


def training_macs(model: nn.Module, resolution: int) -> int:
    """Multiply-accumulates of forward and backward pass for one image; warns as `layer_macs`.

    Three times the forward pass: the gradients by the input and by the weight cost as much as the forward pass each.
    Less what is not computed: the first layer needs no gradient by its input, a frozen layer none by its weight.
    Counted by layer, not by running the backward pass, of which torch's counter makes too much for depthwise
    convolutions.
    """
    counter = _count(model, resolution, torch.enable_grad())
    _warn(counter.uncounted)
    return sum(forward + by_input + by_weight for forward, by_input, by_weight in counter.counted.values())


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
    for name, products in layers.items():
        weight, activation = bits.get(name, default)
        total += products * weight * activation
    return total


def parameters(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _warn(uncounted: Mapping[str, int]) -> None:
    if uncounted:
        operators = listed(uncounted.items())
        warnings.warn(f"MACs leave out unknown operators: {operators}", CompressWarning, stacklevel=1)


def _count(model: nn.Module, resolution: int, gradients: Any) -> _Counter:
    """Run one image through the network."""
    if not all(hasattr(module, "training") for module in model.modules()):
        raise CompressError("a frozen TorchScript network cannot be counted: count the network that it was made from")
    parameter = next(model.parameters(), None)
    like: dict[str, Any] = {} if parameter is None else {"dtype": parameter.dtype, "device": parameter.device}
    images = torch.zeros(1, 3, resolution, resolution, **like)
    counter = _Counter()
    with _evaluating(model), torch.inference_mode(False), gradients, counter.watching(model), counter:
        model(images)
    if counter.quantized:
        raise CompressError(
            f"a quantized network cannot be counted, for its {listed(counter.quantized.items())}: "
            "count the float network that it was made from"
        )
    return counter


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Put the network into eval mode, and every module of it back into the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    fused = torch.backends.mha.get_fastpath_enabled()
    # The fused transformer layer is one operator, of which nothing is known.
    torch.backends.mha.set_fastpath_enabled(False)
    with suppress(NotImplementedError):  # of an exported graph, which stays in the mode that it was exported in
        model.eval()
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for module, training in modes:
            module.training = training


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator for the innermost module that runs it.

    Attributes:
        counted: [forward, gradient by input, gradient by weight] of every layer, in MACs.
        operators: MACs of the forward pass by operator.
        uncounted: Calls by operator.
        quantized: Those of them that compute with integers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.operators: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.quantized: Counter[str] = Counter()
        self.running: list[tuple[str, bool, bool]] = []

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Know which module runs."""
        hooks: list[Any] = []
        try:
            for name, module in model.named_modules():
                hooks.append(module.register_forward_pre_hook(self._entering(name), with_kwargs=True))
                hooks.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if not known(func) and not is_cheap(func, args, kwargs):
            parts = self._decomposed(func, args, kwargs)
            if parts is not NotImplemented:
                return parts
            self.uncounted[str(packet(func))] += 1
            if is_quantized(func, args, kwargs):
                self.quantized[str(packet(func))] += 1
        result = func(*args, **kwargs)
        if known(func):
            self._add(str(packet(func)), multiplied(func, args, kwargs, result))
        return result

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """The result of an operator that is made of others, which are counted; tensors of inference mode show these."""
        with self:
            return func.decompose(*args, **kwargs)

    def _add(self, operator: str, forward: int) -> None:
        name, by_input, by_weight = self.running[-1]
        self.operators[operator] += forward
        for index, factor in enumerate((1, by_input, by_weight)):
            self.counted[name][index] += factor * forward

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
