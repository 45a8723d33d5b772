"""The union of the sections that data sources declare."""

from __future__ import annotations

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from compress import registry
from compress.recipe.data import DataSection


def source_sections() -> Any:
    """Union of the sections of all data sources in `compress.registry.SOURCES`."""
    return functools.reduce(operator.or_, dict.fromkeys(registry.source(name).section for name in registry.SOURCES))


if TYPE_CHECKING:
    Data = DataSection
else:
    Data = Annotated[source_sections(), Field(discriminator="source")]
"""The data section of a recipe."""
