"""From a recipe to units of work, each with the key of everything that determines it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from compress.data.sources import data_key
from compress.deployment.runtimes import find_runtime, missing
from compress.models.fingerprint import LOCAL, teacher_weights_id
from compress.plugins import digests
from compress.quantization.methods import METHODS
from compress.recipe.graph import ordered_stages, teacher_of
from compress.recipe.schema import (
    DistillStage,
    ExportStage,
    PruneStage,
    QuantizeStage,
    Recipe,
    ShrinkStage,
    SparsifyStage,
    Stage,
    TeacherStage,
    TrainStage,
)
from compress.registry import RUNTIMES
from compress.store.store import Store
from compress.utils.errors import CompressError
from compress.utils.hashing import file_digest, key_of
from compress.utils.system import processor, thread_count, version_of

# Raised when a change of this package changes results.
REVISION = 4
# Raised when an export writes other files of the same network.
EXPORT_REVISION = 3
MODEL_PACKAGES = ("torch", "torchvision", "timm")
FIT_PACKAGES = (*MODEL_PACKAGES, "lightning")
TEACHER_PACKAGES = (*MODEL_PACKAGES, "open_clip_torch")
EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino")


@dataclass(frozen=True)
class PlannedStage:
    """One entry that a run needs. An export stage has one for each of its variants, every other stage one."""

    id: str
    stage: Stage
    key: str
    parent: str | None
    teacher: str | None = None
    runtimes: tuple[str, ...] = ()  # of an export

    @property
    def is_export(self) -> bool:
        return isinstance(self.stage, ExportStage)


@dataclass(frozen=True)
class Plan:
    """Units in the order in which they can run, with the keys of the data and of both measurements on the machine."""

    recipe: Recipe
    data_key: str
    units: tuple[PlannedStage, ...]
    latency_key: str
    energy_key: str

    def unit(self, identifier: str) -> PlannedStage:
        return next(unit for unit in self.units if unit.id == identifier)

    def first_fit(self, unit: PlannedStage) -> TrainStage | DistillStage:
        """The stage in which the network of a unit was made."""
        while not isinstance(unit.stage, TrainStage | DistillStage):
            assert unit.parent
            unit = self.unit(unit.parent)
        return unit.stage

    @property
    def variants(self) -> tuple[PlannedStage, ...]:
        return tuple(unit for unit in self.units if not unit.is_export)

    @property
    def exports(self) -> tuple[PlannedStage, ...]:
        return tuple(unit for unit in self.units if unit.is_export)


def make_plan(recipe: Recipe, store: Store) -> Plan:
    """Work out the keys of all units.

    Raises:
        CompressError: data or local weights that the recipe names are missing.
    """
    data = data_key(recipe.data, recipe.seed, cache=store.root / "fingerprints.json")
    units: dict[str, PlannedStage] = {}
    for stage in ordered_stages(recipe):
        if isinstance(stage, ExportStage):
            for variant in stage.from_:
                runtimes = _runtimes(stage, units[variant].stage)
                key = _export_key(recipe, data, stage, runtimes, units[variant].key)
                units[f"{stage.id}/{variant}"] = PlannedStage(
                    f"{stage.id}/{variant}", stage, key, variant, runtimes=tuple(runtimes)
                )
        else:
            units[stage.id] = _variant_unit(recipe, data, stage, units)
    ordered = tuple(units.values())
    common: dict[str, Any] = {
        "revision": REVISION,
        "units": [[unit.id, unit.key] for unit in ordered],
        "machine": machine(recipe),
    }
    allowed = {unit.id: unit.stage.auto_loss for unit in ordered if _is_auto(unit.stage)}
    latency = key_of(
        kind="latency",
        measure=recipe.measure.model_dump(include={"batches", "rounds", "threads"}),
        reference=recipe.worth.references[0],
        **({"allowed": allowed} if allowed else {}),
        **common,
    )
    energy = key_of(kind="energy", batch=max(recipe.measure.batches), **common)
    return Plan(recipe, data, ordered, latency, energy)


def _variant_unit(recipe: Recipe, data: str, stage: Stage, units: dict[str, PlannedStage]) -> PlannedStage:
    # What is left out changes no result.
    everywhere = dict.fromkeys(("id", "from_", "published", "verify"), True)
    idle: Any = {**everywhere, "repair": {"verify"}, "training": {"verify"}}
    if isinstance(stage, TeacherStage):
        idle["teacher"] = {"batch", "pretraining", "classes"}
    settings, packages = stage.model_dump(mode="json", exclude=idle), _packages(stage)
    parent = getattr(stage, "from_", None)
    ancestor = teacher_of(recipe, stage.id)
    teacher = ancestor.id if ancestor else None
    learns = isinstance(stage, PruneStage | ShrinkStage | SparsifyStage) or bool(getattr(stage, "training", None))
    parents = [units[name].key for name in (parent, teacher if learns else None) if name]
    if isinstance(stage, TeacherStage):
        prompts = {"templates": recipe.data.templates, "prompts": recipe.data.prompts}
        # What a file holds counts, not where it lies.
        where = {"checkpoint": None} | ({"model": LOCAL} if stage.teacher.model.startswith(LOCAL) else {})
        weights = teacher_weights_id(stage.teacher)
        settings = {**settings, **prompts, "teacher": {**settings["teacher"], **where}, "weights": weights}
    else:
        if isinstance(stage, TrainStage | DistillStage) and stage.student.checkpoint:
            settings["student"]["checkpoint"] = _file_id(stage)
        fit = recipe.trainer.model_dump(include={"devices", "num_nodes", "precision"})
        own = settings.get("seed")  # of a fit; the same as the recipe's, it makes the same
        seed = recipe.seed if own in (None, recipe.seed) else [recipe.seed, own]
        settings = {**settings, "views": recipe.data.views.model_dump(), "fit": fit, "seed": seed}
        if isinstance(stage, SparsifyStage):
            settings |= {"sparsity": stage.share, "until": stage.until if stage.pattern == "unstructured" else None}
        if isinstance(stage, PruneStage) and stage.target_latency:
            settings["machine"] = machine(recipe)
            packages = (*packages, *_export_packages([stage.target_latency.runtime]))
    return PlannedStage(stage.id, stage, _key(recipe, data, settings, packages, parents), parent, teacher)


def _is_auto(stage: Stage) -> TypeGuard[ExportStage]:
    return isinstance(stage, ExportStage) and stage.auto


def _runtimes(stage: ExportStage, variant: Stage) -> list[str]:
    """Runtimes that a variant goes to: those that are named, or all that are here and take it, in the table's order."""
    if not stage.auto:
        return stage.runtimes
    method = variant.method if isinstance(variant, QuantizeStage) else None
    names = [name for name in RUNTIMES if not find_runtime(name).runs_on]
    taken = [name for name in names if method is None or method in find_runtime(name).quantizers]
    return [name for name in taken if not missing(name)]


def _export_key(recipe: Recipe, data: str, stage: ExportStage, runtimes: Sequence[str], parent: str) -> str:
    settings: dict[str, Any] = {"runtimes": runtimes, "triton": stage.triton, "files": EXPORT_REVISION}
    if stage.auto:
        settings["auto"] = True
    if not all(find_runtime(name).portable for name in runtimes):
        settings["processor"] = processor()
    return _key(recipe, data, settings, _export_packages(runtimes), [parent])


def _export_packages(runtimes: Sequence[str]) -> tuple[str, ...]:
    packages = (package for name in runtimes for package in find_runtime(name).packages)
    return tuple(dict.fromkeys((*EXPORT_PACKAGES, *packages)))


def _file_id(stage: TrainStage | DistillStage) -> str:
    try:
        return file_digest(Path(stage.student.checkpoint or ""))
    except OSError as error:
        raise CompressError(f"stage {stage.id}: there is no weights file {stage.student.checkpoint}") from error


def _packages(stage: Stage) -> tuple[str, ...]:
    table: dict[type, tuple[str, ...]] = {
        TeacherStage: TEACHER_PACKAGES,
        TrainStage: FIT_PACKAGES,
        DistillStage: FIT_PACKAGES,
        PruneStage: (*FIT_PACKAGES, "torch-pruning"),
        ShrinkStage: (*FIT_PACKAGES, "torch-pruning"),
        SparsifyStage: FIT_PACKAGES,
        QuantizeStage: FIT_PACKAGES if getattr(stage, "training", None) else ("torch",),
    }
    own = METHODS[stage.method].packages if isinstance(stage, QuantizeStage) else ()
    return (*table[type(stage)], *own)


def _key(recipe: Recipe, data: str, settings: dict[str, Any], packages: tuple[str, ...], parents: list[str]) -> str:
    versions = {name: version_of(name) for name in packages}
    own = {"plugins": plugins} if (plugins := digests()) else {}
    return key_of(revision=REVISION, data=data, settings=settings, parents=parents, versions=versions, **own)


def machine(recipe: Recipe) -> dict[str, Any]:
    """What latency depends on besides the network and its runtime."""
    return {"processor": processor(), "threads": thread_count(recipe.measure.threads)}
