"""Names of quantization methods and observers in a recipe: `auto`, and what `compress.registry.QUANTIZERS` declares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from compress.registry import quantizers

AUTO = "auto"

if TYPE_CHECKING:
    MethodName = str
    ObserverName = str
else:
    MethodName = Literal[(AUTO, *(name for name, method in quantizers().items() if method.restore))]
    ObserverName = Literal[tuple(dict.fromkeys(name for method in quantizers().values() for name in method.observers))]
