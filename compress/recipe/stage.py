"""One stage of a recipe: its keys, what it may start from, and the checks that need the whole recipe.

Each kind of stage is a subclass named in `compress.registry.STAGES`; `compress.stages.kind.StageKind` is their base and
adds what running a stage takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args

from pydantic import Field, GetCoreSchemaHandler
from pydantic_core import CoreSchema

from compress.recipe.base import Identifier, Section
from compress.registry import STAGES, load_entry

if TYPE_CHECKING:
    from compress.recipe.fit import Fit
    from compress.recipe.schema import Recipe

TEACHER = "teacher"
"""A network that others can be distilled from."""
NETWORK = "network"
"""A dense float network of our own, which can be trained further."""
PRUNED = "pruned network"
"""A network whose channels were removed, with the history that its control repeats."""
SPARSE = "sparse network"
"""A network whose zeros a further training would fill again."""
QUANTIZED = "quantized network"


class Published(Section):
    """An accuracy that others report for this stage, shown beside the measured one."""

    top1: Annotated[float, Field(ge=0, le=1)] = Field(description="a fraction")
    source: str


class StageSection(Section):
    """Keys that every stage has.

    Attributes:
        makes: What the stage makes, in the words of this module; nothing where it makes files and no variant.
        starts_from: What it may start from; it has a `from` key unless this is empty.
        starts_from_many: Whether `from` is a list.
        named_sections: Keys whose section may be given by the name of a shipped config.
    """

    id: Identifier
    published: Published | None = None

    if TYPE_CHECKING:
        kind: str

    makes: ClassVar[frozenset[str]] = frozenset()
    starts_from: ClassVar[frozenset[str]] = frozenset()
    starts_from_many: ClassVar[bool] = False
    named_sections: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def kind_name(cls) -> str:
        """Return the value of `kind` that selects this section."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    def parents(self) -> tuple[str, ...]:
        """Return the ids that the stage starts from."""
        start = getattr(self, "from_", ())
        return (start,) if isinstance(start, str) else tuple(start)

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for values that are valid one by one but not together."""
        yield from ()

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        """Yield the trainings of the stage, each with the key that holds it (None: the stage itself)."""
        yield from ()


def stage_sections() -> dict[str, type[StageSection]]:
    """Return the section of every registered kind of stage, by name."""
    return {name: load_entry(kind) if isinstance(kind, str) else kind for name, kind in STAGES.items()}


def kinds_that_make(products: frozenset[str]) -> list[str]:
    """Return the kinds of stage that make any of `products`, in the order of the registry."""
    return [name for name, section in stage_sections().items() if section.makes & products]


class AnyStage:
    """Annotation of a stage: one of the registered kinds, chosen by `kind`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = tuple(stage_sections().values())
        return handler.generate_schema(Annotated[Union[kinds], Field(discriminator="kind")])  # noqa: UP007
