"""Planned stages of a recipe, each with a key of everything that determines its result. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compress.deployment import gpu
from compress.plugins import digests
from compress.recipe.schema import Recipe
from compress.registry import RUNTIMES
from compress.utils.hashing import key_of
from compress.utils.system import kind_of_processor, quota, thread_count, version_of

if TYPE_CHECKING:
    from compress.stages.kind import StageKind

NVIDIA = ("cuda", "CUDAExecutionProvider", "TensorrtExecutionProvider")  # devices of runtimes
REVISION = 8  # raised when a change of this package changes results


@dataclass(frozen=True)
class PlannedStage:
    """One store entry of a plan."""

    id: str  # id of the stage; an export has one entry per variant, `STAGE/VARIANT`
    stage: StageKind
    key: str  # key in the store
    parent: str | None  # id of the variant that it starts from, if any
    teacher: str | None = None  # id of the nearest teacher that it descends from, if any
    runtimes: tuple[str, ...] = ()  # runtimes that an export writes files for
    files: tuple[str, ...] = ()  # names of these files: by runtime, and by precision where that is another one

    @property
    def makes_variant(self) -> bool:
        return bool(self.stage.makes)


@dataclass(frozen=True)
class Plan:
    """Stages in execution order, with the store keys of the data and of the latency and energy measurements."""

    recipe: Recipe
    data_key: str
    stages: tuple[PlannedStage, ...]
    latency_key: str
    energy_key: str
    failed: tuple[str, ...] = ()  # stages and files that could not be made, as part of the keys of measurements

    def stage(self, identifier: str) -> PlannedStage:
        return next(planned for planned in self.stages if planned.id == identifier)

    def origin(self, planned: PlannedStage) -> PlannedStage:
        """Return the stage that created or brought the network that `planned` works on."""
        while not planned.stage.brings_network:
            start = planned.stage.network_from()
            assert start
            planned = self.stage(start)
        return planned

    @property
    def references(self) -> list[str]:
        """Ids of the variants that savings are counted against."""
        made = {planned.id for planned in self.variants}
        return [name for name in self.recipe.worth.references if name in made]

    @property
    def variants(self) -> tuple[PlannedStage, ...]:
        return tuple(planned for planned in self.stages if planned.makes_variant)

    @property
    def exports(self) -> tuple[PlannedStage, ...]:
        """Exports of variants, the first where several stages make the same files of one."""
        exports: dict[tuple[str, str | None], PlannedStage] = {}
        for planned in self.stages:
            if not planned.makes_variant:
                exports.setdefault((planned.key, planned.parent), planned)
        return tuple(exports.values())


@dataclass(frozen=True)
class Planner:
    """Inputs of planning a stage: the recipe, the key of its data, and the stages planned before."""

    recipe: Recipe
    data_key: str
    planned: dict[str, PlannedStage] = field(default_factory=dict)

    def key(self, settings: Mapping[str, Any], packages: Sequence[str], parents: Sequence[str]) -> str:
        """Return the key of an entry from its settings, the versions of its packages, and the keys of its parents."""
        versions = {name: version_of(name) for name in packages}
        own = {"plugins": plugins} if (plugins := digests()) else {}
        return key_of(
            revision=REVISION, data=self.data_key, settings=settings, parents=list(parents), versions=versions, **own
        )


def machine(recipe: Recipe, runtimes: Iterable[str]) -> dict[str, Any]:
    """Return what of this machine latency in these runtimes depends on."""
    nvidia = any(RUNTIMES[name].device in NVIDIA for name in runtimes)
    return {
        "processor": kind_of_processor(),
        "threads": thread_count(recipe.measure.threads),
        "quota": quota(),
        **({"gpu": gpu.kind()} if nvidia else {}),
    }
