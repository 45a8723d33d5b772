"""Look up layers of a network by name."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from compress.utils.errors import UsageError
from compress.utils.messages import did_you_mean, truncate_list


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
            hint = did_you_mean(pattern, layers, most=3, limit=None) or f"; layers: {truncate_list(list(layers))}"
            raise UsageError(f"keep: no layer matches {pattern!r}{hint}")
        matches |= matching
    return matches
