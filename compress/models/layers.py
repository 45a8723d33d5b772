"""Look up layers of a network by name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from compress.utils.errors import UsageError


def layers_named(model: nn.Module, patterns: Sequence[str]) -> dict[str, nn.Module]:
    """Find the convolutions and linear layers whose names match one of the patterns; `*` stands for any characters.

    Raises:
        UsageError: a pattern matches no layer.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    matches: dict[str, nn.Module] = {}
    for pattern in patterns:
        matching = {name: layer for name, layer in layers.items() if fnmatchcase(name, pattern)}
        if not matching:
            close = difflib.get_close_matches(pattern, layers, 3)
            raise UsageError(f"keep: no layer matches {pattern!r}; layers: {', '.join(close or list(layers)[:8])}")
        matches |= matching
    return matches
