"""Register networks for images of 32 pixels with timm; annotations of their builders are the limits of options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Annotated, Any, TypeVar

from pydantic import ConfigDict, Field, ValidationError, validate_call
from timm.models import register_model
from torch import nn

from compress.utils.errors import UsageError

Stride = Annotated[int, Field(ge=1, le=2)]
Width = Annotated[float, Field(ge=0.25, le=16)]
Last = Annotated[int, Field(ge=8)]
STRICT = ConfigDict(strict=True, allow_inf_nan=False)  # no booleans for numbers, no 1.0 for a stride
N = TypeVar("N", bound=nn.Module)


def register(build: Callable[..., N]) -> Callable[..., N]:
    """Register a builder with timm, under its name; return it with the four arguments that `timm.create_model` adds.

    The registered builder raises TypeError for options that `build` does not have, and UsageError for values outside of
    its annotations, or if weights are asked for: timm loads them in `build_model_with_cfg`, which is not used here.
    """
    checked, signature = validate_call(config=STRICT)(build), inspect.signature(build)
    name = build.__name__

    @wraps(build)
    def entry(
        pretrained: bool = False,
        pretrained_cfg: Any = None,
        pretrained_cfg_overlay: Any = None,
        cache_dir: Any = None,
        **options: Any,
    ) -> N:
        if pretrained:
            raise UsageError(f"timm has no weights of {name}; give your own as `checkpoint`")
        signature.bind(**options)
        try:
            return checked(**options)
        except ValidationError as error:
            wrong = [
                f"`{fault['loc'][0]}: {fault['input']}` {fault['msg'].removeprefix('Input ')}"
                for fault in error.errors()
            ]
            raise UsageError(f"`options` of {name}: {', '.join(wrong)}") from error

    register_model(entry)
    return entry
