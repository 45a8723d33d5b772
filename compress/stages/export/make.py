"""Make the artifacts of a variant and evaluate each on the test split in its runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from compress.data.preprocess import Preprocess
from compress.deployment.artifact_files import artifact_bytes
from compress.deployment.coverage import Coverage
from compress.deployment.export import Target, export_files
from compress.deployment.preprocess_file import PREPROCESS, preprocess_file
from compress.deployment.runtimes import find_runtime
from compress.deployment.triton import BACKENDS, write_triton
from compress.measurement.accuracy import agreement, bits, max_abs_diff
from compress.measurement.predict import Logits, predict_split_in_runtime
from compress.models.class_list import beside
from compress.models.eager import run_eager
from compress.results import ARTIFACTS, Artifact, RuntimeChecks, ValidationCheck
from compress.results.stored import FAILED, ROWS, FailedFiles, logits_file
from compress.stages.context import StageContext
from compress.stages.embeddings import embed_test, measure_embeddings
from compress.stages.evaluation import LOGITS, split_accuracy
from compress.stages.export import ExportStage, methods_by_runtime, triton_name
from compress.stages.export.by_method import FloatParent
from compress.stages.export.crashes import without_crashes
from compress.stages.export.files import Files
from compress.stages.export.logits import BATCH, outputs_in, require_finite, store_logits
from compress.stages.export.problems import integer_remedy
from compress.stages.export.temperature import fold_temperature
from compress.stages.export.text import write_text_tower
from compress.stages.kind import StageKind
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage
from compress.utils.boundaries import boundary
from compress.utils.checksums import write_sums
from compress.utils.console import say
from compress.utils.errors import CompressError
from compress.utils.messages import join_words
from compress.utils.precision import HALF, file_name

CHECKS = "auto.json"
MIN_INTEGER_SHARE = 0.5
"""Minimum share of MACs in integer arithmetic for a quantized network without integer convolutions."""
MOSTLY = 0.5
"""Share of MACs in half precision from which on a file counts as run in it."""
NOT_RUN = "written, format checked, not run here"


@dataclass(frozen=True)
class _Variant:
    """The variant to export."""

    id: str
    model: nn.Module
    preprocess: Preprocess
    stage: StageKind  # that made it
    method: str | None  # quantization method of its own network
    logits: Logits  # of the test images, divided by the temperature
    temperature: float | None = None  # that its logits were divided by


def make_export(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Write the artifacts of a variant and evaluate them."""
    stage = planned.stage
    assert isinstance(stage, ExportStage) and planned.parent
    if not planned.runtimes:
        raise CompressError(f"no installed runtime supports {planned.parent}; see `compress-model doctor`")
    _clear(folder)
    variant = _load(context, planned.parent, stage.temperature_scaling)
    files = _write(context, planned, variant, folder)
    rows: dict[Target, Artifact] = {}
    for target, path in list(files.built.items()):
        if find_runtime(target.runtime).runs_on:
            rows[target] = _not_run(target, path, variant, files)
            continue
        try:
            rows[target] = _evaluate(context, target, path, variant, files, folder)
        except CompressError as error:
            files.leave_out(target, error)
    for name, reason in files.reasons.items():
        say(f"  {name}: {'skipped' if stage.auto else 'failed'}: {reason}")
    if not files.built:
        raise CompressError(files.failure(stage.auto))
    if stage.auto:
        _check_on_validation(context, variant, rows, files, folder)
    elif files.left_out:
        FailedFiles(reasons=files.reasons).write(folder / FAILED)
    if stage.triton:
        _write_triton(context, variant, rows, files, folder)
    if stage.text:
        write_text_tower(context, variant.id, folder)
    for path in files.built.values():
        write_sums(path.parent)
    (folder / ROWS).write_bytes(ARTIFACTS.dump_json(tuple(rows.values()), indent=1))


def _clear(folder: Path) -> None:
    """Remove what a killed run left: it may have failed with files that are made this time."""
    for left in ("artifacts", "triton", "logits"):
        shutil.rmtree(folder / left, ignore_errors=True)
    for left in (FAILED, CHECKS, ROWS):
        (folder / left).unlink(missing_ok=True)


def _load(context: StageContext, identifier: str, scaled: bool) -> _Variant:
    model, preprocess = context.classifier(identifier)
    made = context.plan.stage(identifier).stage
    method = made.own_method(context.recipe) if isinstance(made, QuantizeStage) else None
    logits, temperature = np.load(context.folder(identifier) / LOGITS), None
    if scaled:
        own = context.logits(model, "validation", preprocess)
        temperature = fold_temperature(model, own, context.rendered("validation", preprocess), identifier)
        logits = logits / (temperature or 1.0)
    return _Variant(identifier, model, preprocess, made, method, logits, temperature)


def _write(context: StageContext, planned: PlannedStage, variant: _Variant, folder: Path) -> Files:
    """Write the files into `folder`, from which `_clear` has removed those of a killed run."""
    stage = planned.stage
    assert isinstance(stage, ExportStage)
    preprocess = preprocess_file(variant.preprocess, context.data.resolution, context.data.classes)
    parent = context.plan.stage(variant.id)
    methods = methods_by_runtime(parent.stage, context.recipe, planned.runtimes)
    targets = stage.targets(parent.stage, planned.runtimes)
    files = Files({}, methods=methods, source=FloatParent(context, parent) if methods else None)
    own, path = [target for target in targets if target.runtime not in methods], folder / "artifacts"
    built = export_files(variant.model, path, own, preprocess, files.left_out, stage.options) if own else {}
    built = without_crashes(variant.id, built, files.left_out)
    if files.source:
        built |= files.source.export(methods, path, preprocess, files.left_out, stage)
    files.built = {target: built[target] for target in targets if target in built}
    return files


def _write_triton(
    context: StageContext, variant: _Variant, rows: Mapping[Target, Artifact], files: Files, folder: Path
) -> None:
    """Write a model repository of the files that were evaluated, a model per precision."""
    preprocess = preprocess_file(variant.preprocess, context.data.resolution, context.data.classes)
    wrote = False
    for precision in dict.fromkeys(target.precision for target in files.built):
        evaluated = {target.runtime: row for target, row in rows.items() if target.precision == precision}
        if runtime := served(evaluated, variant.method):
            built = {runtime: files.built[Target(runtime, precision)]}
            write_triton(built, folder / "triton" / triton_name(variant.id, precision), preprocess)
            wrote = True
    if not wrote:
        say(f"  triton: skipped, as no file for {join_words(BACKENDS)} was made")


def served(evaluated: Mapping[str, Artifact], method: str | None) -> str | None:
    """Return the runtime whose file Triton serves, the first that Triton has; None without one.

    Files that are quantized by different methods are different networks: that of the variant's own `method` is served.
    """
    able = [name for name in BACKENDS if name in evaluated]
    return max(able, key=lambda name: evaluated[name].method == method, default=None)


def _check_on_validation(
    context: StageContext, variant: _Variant, rows: Mapping[Target, Artifact], files: Files, folder: Path
) -> None:
    """Write the validation loss of each artifact against PyTorch, and the skipped runtimes, for `runtimes: auto`."""
    validation, preprocess = context.rendered("validation", variant.preprocess)
    eager = partial(run_eager, variant.model)
    expected = predict_split_in_runtime(eager, preprocess, validation, BATCH).argmax(1)
    checks = {}
    for target in files.built:
        predicted = np.load(logits_file(folder, rows[target], "validation")).argmax(1)
        loss = float((expected == validation.labels).mean() - (predicted == validation.labels).mean())
        checks[_name(target, variant)] = ValidationCheck(
            loss=loss, agreement=agreement(predicted, expected), n=len(validation)
        )
    record = RuntimeChecks(validation=checks, left_out=files.reasons)
    record.write(folder / CHECKS)


def _evaluate(
    context: StageContext, target: Target, path: Path, variant: _Variant, files: Files, folder: Path
) -> Artifact:
    """Evaluate an artifact in its runtime, store its logits, and compare it with the network it was made from."""
    engine, runtime = find_runtime(target.runtime), target.runtime
    with boundary("runtime", f"{variant.id} in {target.name}"):
        coverage = engine.coverage(path)
    # A transformer has one convolution and nearly all of its MACs in linear layers.
    if variant.stage.is_quantized and coverage.integer_convs == 0 and (coverage.share or 0) < MIN_INTEGER_SHARE:
        raise CompressError(
            f"{runtime} runs none of the {coverage.convs} convolutions of {variant.id} in integer arithmetic; "
            + integer_remedy(runtime, variant.stage)
        )
    artifact, test = _described(target, path, variant, files), context.data.test
    with boundary("runtime", f"{variant.id} in {target.name}"):
        run, classes = engine.load(path), beside(path)
        logits, outputs = store_logits(context, run, "test", variant.preprocess, artifact, folder, classes)
        require_finite(logits, "test images", target.precision)
        if len(context.data.validation):
            store_logits(context, run, "validation", variant.preprocess, artifact, folder, classes)
    record = split_accuracy(logits, test, "test")
    expected, network = variant.logits, "PyTorch"
    if files.source and runtime in files.methods:
        expected, network = files.source.expected(files.methods[runtime]), "its float network"
    same = agreement(logits.argmax(1), expected.argmax(1))
    ran_in = _ran_in(_precision(target, variant), coverage)
    say(f"  {target.name}: top-1 {record.top1:.2%}, agrees with {network} on {same:.2%}{ran_in}")
    measured: dict[str, object] = {
        "top1": record.top1,
        "ci95": record.ci95,
        "right": bits(logits.argmax(1) == test.labels),
        "top1_agreement": same,
        "max_abs_diff": max_abs_diff(logits, expected),
        "integer_convs": coverage.integer_convs,
        "total_convs": coverage.convs,
        "integer_macs_share": coverage.share,
        "macs_by_precision": coverage.precisions,
        "casts": coverage.casts,
    }
    if classes:
        embedded = embed_test(context, partial(outputs_in, context, run, variant.preprocess), outputs)
        measured["embeddings"] = measure_embeddings(context, variant.id, folder, embedded, classes)
    return Artifact(**{**dict(artifact), **measured})  # validated: what is stored can be read


def _ran_in(precision: str, coverage: Coverage) -> str:
    """Say in which precision a file in half precision ran, where that is another one."""
    shares = coverage.precisions
    if precision not in HALF or shares is None or shares.get(precision, 0) >= MOSTLY:
        return ""
    return f"; {precision} ran in {join_words((f'{name} ({share:.0%})' for name, share in shares.items()), 'and')}"


def _precision(target: Target, variant: _Variant) -> str:
    """Return the precision that a file is written in."""
    if variant.stage.is_quantized:
        return variant.stage.variant_precision
    return target.precision or find_runtime(target.runtime).precisions[0]


def _name(target: Target, variant: _Variant) -> str:
    """Return the name of a file in results."""
    return file_name(target.runtime, _precision(target, variant))


def _described(target: Target, path: Path, variant: _Variant, files: Files) -> Artifact:
    """Return what is known of an artifact without running it."""
    made_here = target.runtime in files.methods and files.source
    stated = json.loads((path.parent / PREPROCESS).read_text(encoding="utf-8"))
    return Artifact(
        runtime=target.runtime,
        format=find_runtime(target.runtime).format,
        precision=_precision(target, variant),
        path=f"artifacts/{variant.id}/{path.parent.name}/{path.name}",
        bytes=artifact_bytes(path),
        needs=tuple(stated["needs"]),
        method=files.methods[target.runtime] if made_here else variant.method,
        calibration_macs=files.source.calibration_macs if files.source and made_here else None,
        temperature=files.source.temperatures.get(files.methods[target.runtime])
        if files.source and made_here
        else variant.temperature,
    )


def _not_run(target: Target, path: Path, variant: _Variant, files: Files) -> Artifact:
    """Record an artifact that does not run on this machine; its accuracy is unknown."""
    say(f"  {target.name}: {NOT_RUN}")
    return _described(target, path, variant, files).model_copy(update={"not_run": NOT_RUN})
