"""Base of the stages of a recipe: their keys, the stages they may start from, and checks across keys.

Each stage kind is a subclass named in `compress.registry.STAGES`. Their base, `compress.stages.kind.StageKind`, adds
planning and running.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Union, get_args

from pydantic import Field, GetCoreSchemaHandler, model_validator
from pydantic_core import CoreSchema

from compress.recipe.base import Identifier, Section
from compress.registry import STAGES, load_entry

if TYPE_CHECKING:
    from compress.recipe.fit import Fit
    from compress.recipe.schema import Recipe

TEACHER = "teacher"  # a network to distil from
NETWORK = "network"  # a dense float network that can be trained further
PRUNED = "pruned network"  # a network with channels removed, whose training history a control repeats
SPARSE = "sparse network"  # a network with zero weights, which further training would fill again
QUANTIZED = "quantized network"


class PublishedInference(Section):
    """Speed and memory as published for a model, shown in a table of their own and never among measurements."""

    model: str = Field(description="model that was measured")
    device: str = Field(description="device that it ran on")
    setting: str = Field(description="runtime, precision, batch and resolution; only equal settings are compared")
    images_per_s: float = Field(gt=0, description="throughput, in images per second")
    latency_ms: float | None = Field(None, gt=0, description="latency of a batch, in ms")
    memory_mb: float | None = Field(None, gt=0, description="memory, in MB (10^6 bytes)")


class Published(Section):
    """Published figures of this stage, shown beside the measured ones."""

    top1: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="top-1 accuracy, as a fraction")
    inference: list[PublishedInference] = Field([], description="speed and memory on the devices of others")
    source: str = Field(description="where they were published")

    @model_validator(mode="after")
    def _states_a_figure(self) -> Published:
        if self.top1 is None and not self.inference:
            raise ValueError("states no figure; set `top1` or `inference`")
        return self


class StageSection(Section):
    """Keys common to all stages."""

    id: Identifier = Field(description="unique id of the stage and its variant")
    published: Published | None = Field(None, description="published figures to compare with")

    if TYPE_CHECKING:
        kind: str

    # products of the stage, constants of this module; empty for a stage that makes files and no variant
    makes: ClassVar[frozenset[str]] = frozenset()
    # products that it may start from; it has a `from` key unless this is empty
    starts_from: ClassVar[frozenset[str]] = frozenset()
    starts_from_many: ClassVar[bool] = False  # whether `from` is a list
    # whether its network, trained before the run, teaches all that descends from it, pruned copies of itself included
    teaches_all: ClassVar[bool] = False
    named_sections: ClassVar[tuple[str, ...]] = ()  # keys whose section may be given as the name of a shipped config

    @classmethod
    def kind_name(cls) -> str:
        """Return the value of `kind` for this section."""
        return str(get_args(cls.model_fields["kind"].annotation)[0])

    def parents(self) -> tuple[str, ...]:
        """Return the ids of the stages that it starts from."""
        start = getattr(self, "from_", ())
        return (start,) if isinstance(start, str) else tuple(start)

    def network_from(self) -> str | None:
        """Return the id of the stage whose network it works on or creates again."""
        return next(iter(self.parents()), None)

    def problems(self, recipe: Recipe) -> Iterator[tuple[str, str]]:
        """Yield (key, message) for values that are valid alone but not together."""
        yield from ()

    def fits(self) -> Iterator[tuple[str | None, Fit]]:
        """Yield the training settings of the stage, each with its key (None: the stage itself)."""
        yield from ()

    def batch_norm_in(self, recipe: Recipe) -> str | None:
        """Return the name of the model that it trains, if that is known to have batch norm without loading weights."""
        return None

    def embeds_in(self, recipe: Recipe) -> bool:
        """Return whether the network that it works on is an embedding student."""
        return False

    def sends_files(self) -> bool:
        """Return whether it writes files that can be sent to the machines of `measure.on`."""
        return False


def stage_sections() -> dict[str, type[StageSection]]:
    """Return the section class of every registered stage kind, by name."""
    return {name: load_entry(kind) if isinstance(kind, str) else kind for name, kind in STAGES.items()}


def kinds_that_make(products: frozenset[str]) -> list[str]:
    """Return the stage kinds that make any of `products`, in registry order."""
    return [name for name, section in stage_sections().items() if section.makes & products]


class AnyStage:
    """Pydantic annotation of a stage: the registered section class selected by `kind`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = tuple(stage_sections().values())
        return handler.generate_schema(Annotated[Union[kinds], Field(discriminator="kind")])  # noqa: UP007
