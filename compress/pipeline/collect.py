"""`results.json`: what the store holds of a plan, put together. No torch, so that a second run is quick."""

from __future__ import annotations

import hashlib
import json
import platform
from typing import Any

from compress.efficiency.deployment import costs_of_million
from compress.efficiency.deployment_fit import deployment_fits
from compress.efficiency.energy import inference_carbon, inference_energy
from compress.efficiency.intervals import paired_difference
from compress.efficiency.savings import training_efficiency, worth
from compress.pipeline.plan import EXPORT_PACKAGES, FIT_PACKAGES, Plan, PlannedStage
from compress.pipeline.predictions import Predictions, bits, class_changes, digest_of, disagreements
from compress.recipe.schema import ShrinkStage, TeacherStage
from compress.store.store import Store
from compress.utils.system import processor, thread_count, version_of

SCHEMA_VERSION = 1


def collect(plan: Plan, store: Store, run: dict[str, Any], command: str) -> dict[str, Any]:
    """Put together the results of a plan all of whose units are in the store."""
    resolved = plan.recipe.resolved()
    measured = json.loads((store.path(plan.latency_key) / "latency.json").read_text())
    measured["energy"] = _energy(plan, store)
    answered = Predictions.read(plan, store)
    variants = [_variant(plan, store, identifier, measured) for identifier in (u.id for u in plan.variants)]
    for variant in variants:
        variant["accuracy"]["right"] = bits(answered.right[variant["id"]])
        variant["control"] = _control(plan, answered, variant["id"])
    trend = plan.recipe.worth.trend.model_dump()
    profile = plan.recipe.worth.deployment.model_dump() if plan.recipe.worth.deployment else None
    efficiency = [
        worth(variants, reference, plan.recipe.worth.tolerance, trend, answered.paired(reference), profile)
        for reference in plan.recipe.worth.references
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "run": run,
        "command": command,
        "recipe": {"name": plan.recipe.name, "sha256": _digest(resolved), "resolved": resolved},
        "environment": {
            "compress": version_of("compress-model"),
            "python": platform.python_version(),
            "torch": version_of("torch"),
            "packages": {
                name: version_of(name)
                for name in dict.fromkeys((*FIT_PACKAGES, "open_clip_torch", "torchao", *EXPORT_PACKAGES))
            },
            "platform": platform.platform(),
            "cpu": processor(),
            "threads": thread_count(plan.recipe.measure.threads),
            "gpu": measured["gpu"],
        },
        "data": _data(answered),
        "variants": variants,
        "efficiency": efficiency,
        "deployment": {"profile": profile, "variants": costs_of_million(variants, profile)} if profile else None,
        "deployments": deployment_fits(
            variants, efficiency, [each.model_dump() for each in plan.recipe.worth.deployments], processor()
        ),
        "training_efficiency": training_efficiency(variants, trend, plan.recipe.worth.reach),
        "class_changes": [
            change for reference in plan.recipe.worth.references for change in class_changes(answered, reference)
        ],
        "disagreements": _disagreements(plan, answered),
    }


def _energy(plan: Plan, store: Store) -> dict[str, Any]:
    """Rows of measured energy by variant; none where there was no counter, or none was to be asked."""
    if plan.recipe.measure.energy == "off" or not store.has(plan.energy_key):
        return {}
    return json.loads((store.path(plan.energy_key) / "energy.json").read_text())["energy"]  # type: ignore[no-any-return]


def _variant(plan: Plan, store: Store, identifier: str, measured: dict[str, Any]) -> dict[str, Any]:
    unit = plan.unit(identifier)
    metrics = json.loads((store.path(unit.key) / "metrics.json").read_text())
    training = metrics["training"]
    settings, latency = plan.recipe.measure, measured["latency"][identifier]
    energy = inference_energy(measured["energy"].get(identifier, ()), latency, settings.watts)
    artifacts = []
    for export in plan.exports:
        if export.parent == identifier:
            artifacts += json.loads((store.path(export.key) / "artifacts.json").read_text())
    return {
        "id": identifier,
        "kind": unit.stage.kind,
        "parent": unit.parent,
        "stage_key": unit.key,
        "accuracy": metrics["accuracy"],
        "published": unit.stage.published.model_dump() if unit.stage.published else None,
        "inference": {
            **metrics["inference"],
            "latency": latency,
            "peak_memory_bytes": measured["peak_memory_bytes"][identifier],
            "peak_memory_basis": measured.get("peak_memory_basis", {}).get(identifier),
            "energy_j": energy,
            "carbon": inference_carbon(energy, settings.carbon_g_per_kwh),
        },
        "training": {
            **{name: training[name] for name in ("macs", "parts", "wall_s")},
            "energy_j": {"value": None, "method": None},
            "curve": training["curve"],
            "selected_on": training["selected_on"],
            "interrupted": training.get("interrupted"),
            "diverged": training.get("diverged", []),
            "teacher_pretraining": _pretraining(plan, unit),
        },
        "artifacts": artifacts,
        "choices": measured.get("choices", {}).get(identifier),
        "pruning": metrics.get("pruning"),
        "sparsity": metrics.get("sparsity"),
        "quantization": metrics.get("quantization"),
    }


def _pretraining(plan: Plan, unit: PlannedStage) -> dict[str, Any]:
    """What the training of a variant's teacher has cost: 0 without a teacher, null where the recipe does not say."""
    stage = plan.unit(unit.teacher).stage if unit.teacher else unit.stage
    if not isinstance(stage, TeacherStage):
        return {"macs": 0, "source": None}
    told = stage.teacher.pretraining
    return {"macs": told.macs, "source": told.source} if told else {"macs": None, "source": None}


def _disagreements(plan: Plan, answered: Predictions) -> dict[str, Any] | None:
    """Between the last variant that has a teacher and that teacher; None where no variant has one."""
    taught = [unit for unit in plan.variants if unit.teacher and unit.teacher != unit.id]
    return disagreements(answered, taught[-1].teacher, taught[-1].id) if taught and taught[-1].teacher else None


def _control(plan: Plan, answered: Predictions, identifier: str) -> dict[str, Any] | None:
    """Of a shrink stage: what the pruned network has gained on it, in accuracy on the same test images."""
    unit = plan.unit(identifier)
    if not isinstance(unit.stage, ShrinkStage) or not unit.parent:
        return None
    found = paired_difference(*answered.paired(identifier)[unit.parent])
    return {"of": unit.parent, "gain": -found.difference, "gain_ci95": [-found.high, -found.low]}


def _data(answered: Predictions) -> dict[str, Any]:
    data = answered.data
    counts = {name: len(getattr(data, name).images) for name in ("train", "unlabeled", "validation", "test")}
    return {
        "name": data.name,
        "classes": list(data.classes),
        **counts,
        "skipped": data.skipped,
        "test_sha256": digest_of(data.test),
    }


def _digest(resolved: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()
