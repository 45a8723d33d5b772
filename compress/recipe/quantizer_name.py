"""Names of quantization methods and observers in a recipe: those that `compress.registry.QUANTIZERS` declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compress.registry import QUANTIZERS, quantizers

if TYPE_CHECKING:
    MethodName = str
    ObserverName = str
else:
    MethodName = Literal[tuple(QUANTIZERS)]
    ObserverName = Literal[tuple(dict.fromkeys(name for method in quantizers().values() for name in method.observers))]
