"""Layers of a network by their names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean, truncate_list


def layers_named(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Convolutions and linear layers whose names match one of the patterns, in which * stands for any characters.

    Raises:
        UsageError: a pattern matches none.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    found: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: layer for name, layer in layers.items() if fnmatchcase(name, pattern)}
        if not matching:
            hint = did_you_mean(pattern, layers, most=3, limit=None) or f"; there are {truncate_list(layers)}"
            raise UsageError(f"keep: no layer is called {pattern!r}{hint}")
        found |= matching
    return found
