"""Multiply-accumulates (MACs) of networks; one MAC is one multiplication and one addition."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass
from torch.utils._pytree import tree_leaves

from compress.measurement.operators import format_calls, has_formula, is_cheap, is_quantized, macs_of_call, packet
from compress.utils.errors import CompressError, CompressWarning

WEIGHT_OPERATORS = ("aten.convolution", "aten.addmm", "aten.mm")  # of convolutions and linears
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")  # of `nn.MultiheadAttention`
FLOAT_BITS = (32, 32)


@dataclass(frozen=True)
class Count:
    """MACs of the forward pass for one image.

    Attributes:
        layers: MACs by module; work outside of its children is under a module's own name. Products with the weight of a
            convolution or linear are under the layer that owns it, also where a parent runs them; see `layer_weights`.
        operators: The same MACs by operator ("aten.convolution").
        uncounted: Calls by operator, of operators without a formula that are not known to be cheap; not in `layers`.
    """

    layers: dict[str, int]
    operators: dict[str, int]
    uncounted: dict[str, int]

    @property
    def macs(self) -> int:
        """MACs of the whole forward pass."""
        return sum(self.layers.values())


def layer_weights(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the weights of convolutions and linears, by the name of their layer.

    The input projections of `nn.MultiheadAttention` are parameters and not modules: one for query, key and value, or,
    if their widths differ, one each. Such a layer has the parameter's name.
    """
    for name, module in model.named_modules():
        owned = {"weight": name} if isinstance(module, LAYERS) else {}
        if isinstance(module, nn.MultiheadAttention):
            owned = {key: f"{name}.{key}" for key in PROJECTIONS}
        for key, layer in owned.items():
            weight = module._parameters.get(key)  # None of a weight with a mask, which is computed
            if weight is not None and not is_traceable_wrapper_subclass(weight):
                yield layer, weight


@runtime_checkable
class Countable(Protocol):
    """A network that PyTorch does not run, and that counts itself."""

    def counted(self, resolution: int) -> Count:
        """Count the MACs of the forward pass for one image."""


def count(model: nn.Module, resolution: int) -> Count:
    """Count the MACs of the forward pass for one image.

    Convolutions (grouped and depthwise ones too), linears, matrix products and attention have MACs; element-wise work,
    normalisation, pooling and biases have none. Zero weights count. Graphs with simulated quantization (PT2E) are
    counted like float networks.

    Args:
        model: A float network, counted by its actual shapes, also after pruning.
        resolution: Side of the image in pixels.

    Raises:
        CompressError: the network computes with integers or is frozen TorchScript, and the count would be incomplete.
    """
    if isinstance(model, Countable):
        return model.counted(resolution)
    counter = _count(model, resolution, torch.no_grad())
    layers = {name: forward for name, (forward, _, _) in counter.counted.items()}
    return Count(layers, dict(counter.operators), dict(counter.uncounted))


def layer_macs(model: nn.Module, resolution: int) -> dict[str, int]:
    """Count the MACs of the forward pass for one image by layer; see `count`.

    Warns of uncounted operators by name.
    """
    counted = count(model, resolution)
    _warn(counted.uncounted)
    return counted.layers


def macs(model: nn.Module, resolution: int) -> int:
    """Count the MACs of the forward pass for one image of `resolution` pixels a side; see `layer_macs`."""
    return sum(layer_macs(model, resolution).values())


def weight_macs(model: nn.Module, resolution: int) -> int:
    """Count the MACs of convolutions and linears alone, without products of two activations; see `count`."""
    counted = count(model, resolution).operators
    return sum(counted.get(name, 0) for name in WEIGHT_OPERATORS)


def training_macs(model: nn.Module, resolution: int) -> int:
    """Count the MACs of forward and backward pass for one image; see `layer_macs`.

    The gradients with respect to the input and to the weight cost as much as the forward pass each, where they are
    computed: the first layer needs no gradient of its input, a frozen layer none of its weight. They are derived layer
    by layer, not by running the backward pass, which torch's counter overestimates for depthwise convolutions.
    """
    counter = _count(model, resolution, torch.enable_grad())
    _warn(counter.uncounted)
    return sum(forward + by_input + by_weight for forward, by_input, by_weight in counter.counted.values())


def bit_operations(
    layers: Mapping[str, int],
    bits: Mapping[str, tuple[int, int]] | None = None,
    default: tuple[int, int] = FLOAT_BITS,
) -> int:
    """Sum MACs x weight bits x activation bits over the layers.

    Args:
        layers: MACs by layer, of `layer_macs`.
        bits: (weight bits, activation bits) by layer.
        default: Bits of layers that are not in `bits`.

    Raises:
        KeyError: `bits` has a layer that is not in `layers`.
    """
    bits = bits or {}
    unknown = sorted(set(bits) - set(layers))
    if unknown:
        raise KeyError(f"no MACs of the layer {unknown[0]}")
    total = 0
    for name, products in layers.items():
        weight, activation = bits.get(name, default)
        total += products * weight * activation
    return total


def parameters(model: nn.Module) -> int:
    """Count parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _warn(uncounted: Mapping[str, int]) -> None:
    if uncounted:
        message = f"MACs do not include unknown operators: {format_calls(uncounted.items())}"
        warnings.warn(message, CompressWarning, stacklevel=1)


def _count(model: nn.Module, resolution: int, gradients: AbstractContextManager[Any]) -> _Counter:
    """Run one image through the network."""
    if not all(hasattr(module, "training") for module in model.modules()):
        raise CompressError("a frozen TorchScript network cannot be counted; count the network that it was made from")
    parameter = next(model.parameters(), None)
    images = torch.zeros(1, 3, resolution, resolution)
    if parameter is not None:
        images = images.to(parameter)
    counter = _Counter()
    with evaluating(model), unfused(), torch.inference_mode(False), gradients, counter.watching(model), counter:
        model(images)
    if counter.quantized:
        raise CompressError(
            f"a quantized network cannot be counted ({format_calls(counter.quantized.items())}); "
            "count the float network that it was made from"
        )
    return counter


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set the network to eval mode, and restore the mode of every module afterwards.

    Networks such as LeViT cache attention biases in eval mode, with the gradients of that moment, until `train` is
    called; what they cached would be neither copied nor trained.
    """
    modes = [(module, module.training) for module in model.modules()]
    with suppress(NotImplementedError):  # exported graphs keep the mode of the export
        model.train().eval()
    try:
        yield
    finally:
        with suppress(NotImplementedError):
            model.train()
        for module, training in modes:
            module.training = training


@contextmanager
def unfused() -> Iterator[None]:
    """Keep the fused transformer layer off: it is one operator without a formula."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operator for the innermost module that runs it, or for the layer whose weight it multiplies by.

    Attributes:
        counted: MACs of every layer: [forward, gradient of the input, gradient of the weight].
        operators: MACs of the forward pass by operator.
        uncounted: Calls of unknown operators by operator.
        quantized: Those calls that compute with integers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
        self.operators: Counter[str] = Counter()
        self.uncounted: Counter[str] = Counter()
        self.quantized: Counter[str] = Counter()
        self.running: list[tuple[str, bool, bool]] = []
        self.weights: dict[range, tuple[str, bool]] = {}  # by addresses: name of the layer, whether it is trained
        self.layers: set[str] = set()  # names of the modules that multiply by their own weight

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Track which module runs."""
        hooks: list[Any] = []
        self.layers = {name for name, module in model.named_modules() if isinstance(module, LAYERS)}
        for layer, weight in layer_weights(model):
            addresses = range(weight.data_ptr(), weight.data_ptr() + weight.nbytes)
            self.weights.setdefault(addresses, (layer, weight.requires_grad))
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
        if not has_formula(func) and not is_cheap(func, args, kwargs):
            parts = self._decomposed(func, args, kwargs)
            if parts is not NotImplemented:
                return parts
            self.uncounted[str(packet(func))] += 1
            if is_quantized(func, args, kwargs):
                self.quantized[str(packet(func))] += 1
        result = func(*args, **kwargs)
        if has_formula(func):
            self._add(str(packet(func)), macs_of_call(func, args, kwargs, result), args)
        return result

    def _decomposed(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run a composite operator as its parts, which are counted; in inference mode it is dispatched whole."""
        with self:
            return func.decompose(*args, **kwargs)

    def _add(self, operator: str, forward: int, args: Any) -> None:
        name, by_input, by_weight = self.running[-1]
        if name not in self.layers:
            operands = [leaf.data_ptr() for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
            known = [held for held in self.weights if any(address in held for address in operands)]
            if known:  # ranges overlap where weights are columns of one tensor: the operand's starts last
                name, by_weight = self.weights[max(known, key=lambda held: held.start)]
        self.operators[operator] += forward
        for index, factor in enumerate((1, by_input, by_weight)):
            self.counted[name][index] += factor * forward

    def _entering(self, name: str) -> Any:
        def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
            needs = any(isinstance(leaf, Tensor) and leaf.requires_grad for leaf in tree_leaves((args, kwargs)))
            held = [module, *(getattr(module, "parametrizations", None) or {}).values()]  # masks keep weights there
            own = [parameter for holder in held for parameter in holder.parameters(recurse=False)]
            # In a product of two activations, another input takes the place of the weight.
            trained = any(parameter.requires_grad for parameter in own) if own else needs
            self.running.append((name, needs, trained))

        return enter

    def _leave(self) -> None:
        self.running.pop()
