"""Collect the results of a plan from the store. Imports no torch, so that a cached run is fast."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence

from compress.data.ood import OodImages
from compress.data.prepared import ImageData
from compress.deployment.runtimes import find_runtime
from compress.efficiency.deployment import costs_of_million
from compress.efficiency.deployment_fit import deployment_fits
from compress.efficiency.energy import inference_carbon, inference_energy
from compress.efficiency.headline import headline
from compress.efficiency.metric import Metric
from compress.efficiency.months import savings_in_months
from compress.efficiency.savings import savings
from compress.efficiency.training import training_efficiency
from compress.gap.points import read_year
from compress.measurement.accuracy import bits
from compress.pipeline.ood import read_ood
from compress.pipeline.predictions import Predictions, class_changes, data_summary, disagreements
from compress.pipeline.robustness import read_robustness
from compress.pipeline.stored_quality import add_quality
from compress.recipe.stage import Published as PublishedSection
from compress.recipe.worth import Deployment as RecipeDeployment
from compress.registry import RUNTIMES
from compress.results.accuracy import Control, Published, PublishedInference
from compress.results.artifacts import Artifact
from compress.results.deployment import Deployment, DeviceProfile
from compress.results.hosts import HostMeasurement
from compress.results.inference import EnergyRow, MeasuredInference
from compress.results.predictions import Disagreements
from compress.results.run import (
    SCHEMA_VERSION,
    Environment,
    Failure,
    RecipeRecord,
    RunInfo,
    RunRecord,
)
from compress.results.savings import Trend
from compress.results.stored import EnergyMeasurements, LatencyMeasurements, VariantMetrics, read_artifacts
from compress.results.training import Ledger, StartPretraining, TeacherPretraining, Training, TrainingEnergy
from compress.results.variant import Variant
from compress.stages.kind import FIT_PACKAGES
from compress.stages.network import NetworkStage
from compress.stages.planned import Plan, PlannedStage
from compress.stages.runtime_packages import EXPORT_PACKAGES
from compress.store.store import Store
from compress.utils.system import instructions, processor, quota, thread_count, version_of

PACKAGES = tuple(dict.fromkeys((*FIT_PACKAGES, "open_clip_torch", "torchao", *EXPORT_PACKAGES)))


def collect(
    plan: Plan,
    store: Store,
    data: ImageData,
    run: RunInfo,
    command: str,
    *,
    energy_counter: str | None = None,
    hosts: Sequence[HostMeasurement] = (),
    remarks: Sequence[str] | None = None,
    failed: Sequence[Failure] = (),
    ood: OodImages | None = None,
) -> RunRecord:
    """Collect the results of a plan; all of its stages must be in the store.

    `run` has the id and times of the run, `energy_counter` the counter's name or why there is none, `hosts` what was
    measured on other machines, `remarks` what is remarkable about the splits, `failed` what could not be made, and
    `ood` the images of `measure.ood`.
    """
    worth = plan.recipe.worth
    latency = LatencyMeasurements.read(store.path(plan.latency_key) / "latency.json")
    energy, predictions = _energy(plan, store), Predictions.read(plan, store, data)
    summary = data_summary(predictions, remarks)
    variants = [_variant(plan, store, unit, latency, energy.get(unit.id, ()), predictions) for unit in plan.variants]
    variants, changes = add_quality(plan, store, predictions, variants)
    metric = Metric.of(worth.metric, summary.test_labels or "", summary.classes, summary.test)
    trend = Trend.model_validate(worth.trend.model_dump())
    date = read_year(run.started) or 0.0
    profile = _profile(worth.deployment) if worth.deployment else None
    saved = [
        savings(variants, reference, worth.tolerance, trend, date, profile, metric.chance(), metric)
        for reference in plan.references
    ]
    training = training_efficiency(variants, trend, date, worth.reach, len(data.validation.images))
    return RunRecord(
        schema_version=SCHEMA_VERSION,
        run=run,
        command=command,
        recipe=_recipe(plan),
        environment=_environment(plan, latency.gpu, energy_counter),
        data=summary,
        failed=tuple(failed) or None,
        headline=headline(variants, saved, training, date, profile),
        variants=tuple(variants),
        efficiency=tuple(saved),
        deployment=_deployment(variants, profile, hosts) if profile else None,
        deployments=deployment_fits(
            variants, saved, [_profile(each) for each in worth.deployments], processor(), hosts
        ),
        hosts=tuple(hosts) or None,
        training_efficiency=training,
        months=savings_in_months(saved, training, trend, date),
        class_changes=tuple(
            change for reference in plan.references for change in class_changes(predictions, reference)
        ),
        quality_changes=changes,
        robustness=read_robustness(plan, store, data, variants),
        ood=read_ood(plan, store, data, ood, variants),
        disagreements=_disagreements(plan, predictions),
    )


def _recipe(plan: Plan) -> RecipeRecord:
    resolved = plan.recipe.resolved()
    digest = hashlib.sha256(json.dumps(resolved, sort_keys=True).encode()).hexdigest()
    return RecipeRecord(name=plan.recipe.name, sha256=digest, resolved=resolved)


def _environment(plan: Plan, gpu: str | None, energy_counter: str | None) -> Environment:
    engines = (find_runtime(name).engine for name in RUNTIMES)
    return Environment(
        compress=version_of("compress-model"),
        python=platform.python_version(),
        torch=version_of("torch"),
        packages={name: version_of(name) for name in dict.fromkeys((*PACKAGES, *engines))},
        platform=platform.platform(),
        cpu=processor(),
        instructions=instructions(),
        threads=thread_count(plan.recipe.measure.threads),
        cpu_quota=quota(),
        gpu=gpu,
        energy_counter=energy_counter,
    )


def _profile(deployment: RecipeDeployment) -> DeviceProfile:
    return DeviceProfile.model_validate(deployment.model_dump())


def _deployment(variants: Sequence[Variant], profile: DeviceProfile, hosts: Sequence[HostMeasurement]) -> Deployment:
    return Deployment(profile=profile, variants=costs_of_million(variants, profile, processor(), hosts))


def _energy(plan: Plan, store: Store) -> dict[str, tuple[EnergyRow, ...]]:
    """Return the rows of measured energy by variant; empty without a counter or with `energy: off`."""
    if plan.recipe.measure.energy == "off" or not store.has(plan.energy_key):
        return {}
    measured = EnergyMeasurements.read(store.path(plan.energy_key) / "energy.json").energy
    return {name: tuple(row for one in rows if (row := one.row())) for name, rows in measured.items()}


def _variant(
    plan: Plan,
    store: Store,
    unit: PlannedStage,
    measured: LatencyMeasurements,
    energy: Sequence[EnergyRow],
    predictions: Predictions,
) -> Variant:
    metrics = VariantMetrics.read(store.path(unit.key) / "metrics.json")
    artifacts = _artifacts(plan, store, unit.id)
    ledger = _with_calibrations(metrics.training, artifacts)
    published = unit.stage.published
    return Variant(
        id=unit.id,
        kind=unit.stage.kind,
        parent=unit.parent,
        stage_key=unit.key,
        accuracy=metrics.accuracy.model_copy(update={"right": bits(predictions.correct[unit.id])}),
        validation=metrics.validation,
        preprocess=metrics.preprocess,
        remarks=metrics.remarks,
        published=Published(top1=published.top1, source=published.source)
        if published and published.top1 is not None
        else None,
        published_inference=_published_inference(published),
        inference=_inference(plan, unit.id, metrics, measured, energy),
        training=_training(ledger, _pretraining(plan, store, unit), _start(plan, unit)),
        artifacts=artifacts,
        choices=measured.choices.get(unit.id),
        pruning=metrics.pruning,
        sparsity=metrics.sparsity,
        quantization=metrics.quantization,
        embeddings=metrics.embeddings,
        control=_control(unit, predictions),
    )


def _published_inference(published: PublishedSection | None) -> tuple[PublishedInference, ...] | None:
    if published is None or not published.inference:
        return None
    return tuple(PublishedInference(source=published.source, **dict(row)) for row in published.inference)


def _inference(
    plan: Plan, variant: str, metrics: VariantMetrics, measured: LatencyMeasurements, energy: Sequence[EnergyRow]
) -> MeasuredInference:
    settings, latency = plan.recipe.measure, measured.latency[variant]
    lowest = inference_energy(energy, latency, settings.watts)
    return MeasuredInference(
        **dict(metrics.inference),
        latency=latency,
        peak_memory_bytes=measured.peak_memory_bytes[variant],
        peak_memory_basis=measured.peak_memory_basis.get(variant),
        energy_j=lowest,
        carbon=inference_carbon(lowest, settings.carbon_g_per_kwh),
    )


def _training(ledger: Ledger, teacher: TeacherPretraining, start: StartPretraining | None) -> Training:
    return Training(
        macs=ledger.macs,
        parts=ledger.parts,
        wall_s=ledger.wall_s,
        energy_j=TrainingEnergy(value=None, method=None),
        curve=ledger.curve,
        selected_on=ledger.selected_on,
        interrupted=ledger.interrupted,
        diverged=ledger.diverged,
        precision=ledger.precision,
        teacher_pretraining=teacher,
        start_pretraining=start,
    )


def _artifacts(plan: Plan, store: Store, variant: str) -> tuple[Artifact, ...]:
    exports = (export for export in plan.exports if export.parent == variant)
    rows = (row for export in exports for row in read_artifacts(store.path(export.key)))
    return tuple(row.model_copy(update={"path": _path_in_run(row, variant)}) for row in rows)


def _path_in_run(artifact: Artifact, variant: str) -> str:
    """Return the path of a file in this run: the recipe that made it may have another id for its variant."""
    _, _, place = artifact.path.removeprefix("artifacts/").partition("/")
    return f"artifacts/{variant}/{place}"


def _with_calibrations(ledger: Ledger, artifacts: Sequence[Artifact]) -> Ledger:
    """Charge the calibrations that the files of a variant needed besides its own, one per method."""
    for method, spent in {file.method: file.calibration_macs for file in artifacts if file.calibration_macs}.items():
        ledger = ledger.charge(f"calibration by {method}", spent)
    return ledger


def _pretraining(plan: Plan, store: Store, unit: PlannedStage) -> TeacherPretraining:
    """Return the training compute of the variant's teacher: 0 without a teacher, None if not stated."""
    teacher = plan.stage(unit.teacher) if unit.teacher else unit
    stage = teacher.stage
    if not stage.teaches_all:
        return _trained_teacher(plan, store, teacher) if unit.teacher else TeacherPretraining(macs=0, source=None)
    stated = [part for part in (stage.pretraining(), stage.fine_tuning()) if part]
    tuned = stage.fine_tuning()
    return TeacherPretraining(
        macs=sum(part.macs for part in stated) if stage.pretraining() else None,
        fine_tuning=tuned.macs if tuned else None,
        source="; ".join(part.source for part in stated) or None,
    )


def _trained_teacher(plan: Plan, store: Store, teacher: PlannedStage) -> TeacherPretraining:
    """Return the training compute of a teacher that the recipe trains, and of the weights that it started from."""
    spent, start = VariantMetrics.read(store.path(teacher.key) / "metrics.json").training.macs, _start(plan, teacher)
    before, source = start.macs if start else 0, f"training of {teacher.id}, a stage of this recipe"
    return TeacherPretraining(
        macs=None if before is None else before + spent,
        fine_tuning=spent if start else None,
        source=f"{source}; {start.source}" if start and start.source else source,
    )


def _start(plan: Plan, unit: PlannedStage) -> StartPretraining | None:
    """Return the compute of the weights that the variant's student starts from; None for random ones."""
    while not unit.stage.brings_network and not unit.stage.random_weights and (start := unit.stage.network_from()):
        unit = plan.stage(start)
    stage = unit.stage
    if not isinstance(stage, NetworkStage) or not stage.starts_trained:
        return None
    stated = stage.pretraining()
    return StartPretraining(macs=stated.macs if stated else None, source=stated.source if stated else None)


def _control(unit: PlannedStage, predictions: Predictions) -> Control | None:
    """Return the accuracy gain of a variant over its control, on the same test images; None for other variants."""
    if not unit.stage.control or not unit.parent:
        return None
    lost = predictions.difference(unit.id, unit.parent)
    return Control(of=unit.parent, gain=lost.gain, gain_ci95=lost.gain_ends, repeats=unit.stage.repeats())


def _disagreements(plan: Plan, predictions: Predictions) -> Disagreements | None:
    """Compare the last variant that has a teacher with that teacher; None if no variant has one."""
    pairs = [(unit.teacher, unit.id) for unit in plan.variants if unit.teacher and unit.teacher != unit.id]
    return disagreements(predictions, *pairs[-1]) if pairs else None
