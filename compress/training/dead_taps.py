"""Convolutions onto a single pixel, fitted without the taps that only ever see padding.

A network made for large images shrinks small ones to a single pixel before its last layers: ResNet18 with 32-pixel
images before its last stage. There eight of the nine taps of a 3x3 kernel meet nothing but the zeros of the padding.
They change no output and get no gradient, but are 62% of ResNet18's weights, and most of a training step's time goes
into them. While a network is fitted they are left out; afterwards they are zero, so that they do not count in the norms
by which channels are pruned, nor in the scales of INT8.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Side = tuple[int, int]


class OnePixel(nn.Module):
    """A convolution of images `[b, in, *side]` to `[b, out, 1, 1]`: a linear map of the taps that see the image."""

    def __init__(self, conv: nn.Conv2d, side: Side) -> None:
        super().__init__()
        self.live = _live(conv, side)
        self.weight = nn.Parameter(conv.weight.detach()[self.live].clone(memory_format=torch.contiguous_format))
        self.bias = conv.bias
        self.weight.requires_grad_(conv.weight.requires_grad)

    def forward(self, images: Tensor) -> Tensor:
        height, width = self.weight.shape[2:]
        seen = images[:, :, :height, :width].flatten(1)
        return F.linear(seen, self.weight.flatten(1), self.bias)[:, :, None, None]


@contextmanager
def without_dead_taps(network: nn.Module, resolution: int) -> Iterator[int]:
    """Within, the convolutions of `network` that have dead taps for images of this size do without them.

    Yields the number of weights left out. Layers other than plain, ungrouped `nn.Conv2d` with zero padding stay as they
    are, and so do those that are called with images of several sizes.
    """
    swapped = {}
    for name, side in _onto_one_pixel(network, resolution).items():
        conv = network.get_submodule(name)
        assert isinstance(conv, nn.Conv2d)
        swapped[name] = (conv, OnePixel(conv, side))
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


def _live(conv: nn.Conv2d, side: Side) -> tuple[slice, ...]:
    """Where in its weight the taps are that see the image."""
    assert not isinstance(conv.padding, str)
    taps = zip(conv.padding, conv.kernel_size, side, strict=True)
    return (slice(None), slice(None), *(slice(before, min(before + length, kernel)) for before, kernel, length in taps))


@torch.no_grad()
def _onto_one_pixel(network: nn.Module, resolution: int) -> dict[str, Side]:
    """Names of the convolutions onto one pixel that have dead taps, and the side of the images that they see."""
    sides: dict[nn.Module, set[tuple[Side, Side]]] = defaultdict(set)

    def note(module: nn.Module, given: tuple[Tensor], made: Tensor) -> None:
        sides[module].add((tuple(given[0].shape[2:]), tuple(made.shape[2:])))  # type: ignore[arg-type]

    plain = [m for m in network.modules() if type(m) is nn.Conv2d and _is_plain(m)]
    hooks = [module.register_forward_hook(note) for module in plain]
    training = network.training
    weight = next(network.parameters())
    network.eval()(torch.zeros(1, 3, resolution, resolution, device=weight.device, dtype=weight.dtype))
    network.train(training)
    for hook in hooks:
        hook.remove()
    found = {}
    names: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in network.named_modules(remove_duplicate=False):
        names[module].append(name)
    for module in plain:
        if len(sides[module]) == 1 and len(names[module]) == 1:
            ((side, made),) = sides[module]
            live = tuple(part.stop - part.start for part in _live(module, side)[2:])
            if made == (1, 1) and live != module.kernel_size:
                found[names[module][0]] = side
    return found


def _is_plain(conv: nn.Conv2d) -> bool:
    return (
        conv.groups == 1
        and conv.dilation == (1, 1)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and type(conv).forward is nn.Conv2d.forward
    )
