"""Networks and files of a run that are evaluated on further images, in units of the store. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from compress.deployment.runtimes import find_runtime
from compress.efficiency.files import FileKey
from compress.registry import PYTORCH
from compress.results.stored import runnable_artifacts
from compress.stages.planned import Plan, PlannedStage
from compress.store.store import Store
from compress.utils.hashing import key_of
from compress.utils.precision import file_name
from compress.utils.system import version_of


@dataclass(frozen=True)
class FileUnit:
    """The network of a variant or a file of an export, which is evaluated, with the key of what was found."""

    planned: PlannedStage
    file: FileKey
    key: str

    @property
    def name(self) -> str:
        """Name of the network or the file, as what was found of it is stored."""
        _, runtime, precision = self.file
        return file_name(runtime, precision)


def file_units(plan: Plan, store: Store, **identity: Any) -> list[FileUnit]:
    """Return what to evaluate, in order; all stages must be stored. `identity` says on what, for the keys.

    A quantized network in PyTorch only simulates its files, and is left out where these run.
    """
    files = {export.id: runnable_artifacts(store.path(export.key)) for export in plan.exports}
    run = {export.parent for export in plan.exports if files[export.id]}
    networks = [each for each in plan.variants if not (each.stage.is_quantized and each.id in run)]
    units = [FileUnit(each, (each.id, PYTORCH, None), _key(plan, each, [], identity)) for each in networks]
    for export in plan.exports:
        for row, _ in files[export.id]:
            # An export that could not make all of its files is tried again under the same key.
            key = _key(plan, export, [[row.path, row.top1, row.right]], identity)
            units.append(FileUnit(export, (export.parent or "", row.runtime, row.precision), key))
    return units


def _key(plan: Plan, planned: PlannedStage, files: Sequence[Sequence[object]], identity: dict[str, Any]) -> str:
    versions = {name: version_of(name) for name in ("numpy", "pillow")}
    common = {"data": plan.data_key, "seed": plan.recipe.seed, "unit": planned.key, "versions": versions}
    return key_of(files=files, **common, **identity)


def expected_passes(plan: Plan) -> list[tuple[PlannedStage, int]]:
    """Return the variants with the number of their networks and files that will be evaluated."""
    files = dict.fromkeys((variant.id for variant in plan.variants), 0)
    for export in plan.exports:
        if export.parent:
            files[export.parent] += sum(not find_runtime(name.split()[0]).runs_on for name in export.files)
    return [
        (variant, files[variant.id] + (not (variant.stage.is_quantized and files[variant.id])))
        for variant in plan.variants
    ]


def lacking_passes(plan: Plan, store: Store, units: Sequence[FileUnit]) -> list[tuple[PlannedStage, int]]:
    """Return the same of a plan whose stages are all stored, for those of `units` that the store lacks."""
    return [
        (unit.planned if unit.planned.makes_variant else plan.stage(unit.planned.parent or ""), 1)
        for unit in units
        if not store.exists(unit.key)
    ]
