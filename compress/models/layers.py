"""Layers of a network by their names."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from compress.utils.errors import UsageError


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
            close = difflib.get_close_matches(pattern, layers, 3)
            raise UsageError(f"keep: no layer is called {pattern!r}; there are {', '.join(close or list(layers)[:8])}")
        found |= matching
    return found
