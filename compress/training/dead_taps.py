"""Train convolutions onto a single pixel without the kernel taps that only ever see padding.

A network designed for large images shrinks small ones to a single pixel before its last layers: ResNet18 with 32-pixel
images before its last stage. There eight of the nine taps of a 3x3 kernel meet nothing but the zeros of the padding.
They change no output and get no gradient, but are 62% of ResNet18's weights, and take most of the time of a training
step. They are left out during a fit; afterwards they are zero, so that they do not count in the norms by which channels
are pruned, nor in the scales of INT8.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Size = tuple[int, int]  # height and width in pixels


class OnePixelConv(nn.Module):
    """A convolution of maps `[b, in, *size]` to `[b, out, 1, 1]`: a linear layer of the taps that see the maps."""

    def __init__(self, conv: nn.Conv2d, size: Size) -> None:
        super().__init__()
        self.live = _live_taps(conv, size)
        self.weight = nn.Parameter(conv.weight.detach()[self.live].clone(memory_format=torch.contiguous_format))
        self.bias = conv.bias
        self.weight.requires_grad_(conv.weight.requires_grad)

    def forward(self, maps: Tensor) -> Tensor:
        height, width = self.weight.shape[2:]
        seen = maps[:, :, :height, :width].flatten(1)
        return F.linear(seen, self.weight.flatten(1), self.bias)[:, :, None, None]


@contextmanager
def without_dead_taps(network: nn.Module, resolution: int) -> Iterator[int]:
    """Replace the convolutions of `network` that have dead taps for images of `resolution` pixels, until exit.

    Layers other than plain, ungrouped `nn.Conv2d` with zero padding are left alone, as are frozen ones, those that
    are called with maps of several sizes, and those that share their weight.

    Yields:
        The number of weights left out.
    """
    swapped = {}
    for name, size in _dead_convs(network, resolution).items():
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        swapped[name] = (conv, OnePixelConv(conv, size))
        network.set_submodule(name, swapped[name][1])
    try:
        yield sum(conv.weight.numel() - small.weight.numel() for conv, small in swapped.values())
    finally:
        for name, (conv, small) in swapped.items():
            with torch.no_grad():
                whole = torch.zeros_like(conv.weight, device=small.weight.device)
                whole[small.live] = small.weight
                conv.weight = nn.Parameter(whole, conv.weight.requires_grad)
            network.set_submodule(name, conv)


def _live_taps(conv: nn.Conv2d, size: Size) -> tuple[slice, ...]:
    """Return the slices of its weight with the taps that see maps of this size."""
    assert not isinstance(conv.padding, str)
    taps = zip(conv.padding, conv.kernel_size, size, strict=True)
    return (slice(None), slice(None), *(slice(before, min(before + length, kernel)) for before, kernel, length in taps))


@torch.no_grad()
def _dead_convs(network: nn.Module, resolution: int) -> dict[str, Size]:
    """Find the convolutions onto one pixel that have dead taps; return the size of their input maps by name."""
    sizes: dict[nn.Module, set[tuple[Size, Size]]] = defaultdict(set)

    def record(module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        sizes[module].add((tuple(args[0].shape[2:]), tuple(output.shape[2:])))  # type: ignore[arg-type]

    plain = [m for m in network.modules() if type(m) is nn.Conv2d and _is_plain(m)]
    hooks = [module.register_forward_hook(record) for module in plain]
    training = network.training
    weight = next(network.parameters())
    network.eval()(torch.zeros(1, 3, resolution, resolution, device=weight.device, dtype=weight.dtype))
    network.train(training)
    for hook in hooks:
        hook.remove()
    dead = {}
    owners = Counter(id(weight) for _, weight in network.named_parameters(remove_duplicate=False))
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in network.named_modules(remove_duplicate=False):
        names[module].append(name)
    for module in plain:
        if len(sizes[module]) == 1 and len(names[module]) == 1 and owners[id(module.weight)] == 1:
            ((size, output),) = sizes[module]
            live = tuple(part.stop - part.start for part in _live_taps(module, size)[2:])
            if output == (1, 1) and live != module.kernel_size:
                dead[names[module][0]] = size
    return dead


def _is_plain(conv: nn.Conv2d) -> bool:
    return (
        conv.weight.requires_grad
        and conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and type(conv).forward is nn.Conv2d.forward
    )
