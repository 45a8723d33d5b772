"""Make the artifacts of a variant and evaluate each on the test split in its runtime."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from compress.data.preprocess import Preprocess
from compress.deployment.export import artifact_bytes, export
from compress.deployment.preprocess_file import preprocess_file
from compress.deployment.runtimes import find_runtime
from compress.deployment.triton import BACKENDS, write_triton
from compress.measurement.accuracy import agreement, bits, max_abs_diff
from compress.measurement.predict import Logits, Runner, predict_split_in_runtime
from compress.models.eager import run_eager
from compress.results import ARTIFACTS, Artifact, RuntimeChecks, ValidationCheck
from compress.results.stored import FAILED, FailedFiles
from compress.stages.context import LOGITS, StageContext, split_accuracy
from compress.stages.export import ExportStage, methods_by_runtime
from compress.stages.export.by_method import FloatParent
from compress.stages.planned import PlannedStage
from compress.stages.quantize import QuantizeStage
from compress.utils.boundaries import boundary
from compress.utils.checksums import write_sums
from compress.utils.console import say
from compress.utils.errors import CompressError
from compress.utils.messages import join_words

ROWS = "artifacts.json"
CHECKS = "auto.json"
BATCH = 50  # batch size of evaluation in a runtime
MIN_INTEGER_SHARE = 0.5
"""Minimum share of MACs in integer arithmetic for a quantized network without integer convolutions."""
NOT_RUN = "written, format checked, not run here"


@dataclass(frozen=True)
class _Variant:
    """The variant to export."""

    id: str
    model: nn.Module
    preprocess: Preprocess
    quantized: bool
    method: str | None  # quantization method of its own network
    logits: Logits


@dataclass
class _Files:
    """Artifacts by runtime, and why other runtimes were skipped."""

    built: dict[str, Path]
    left_out: dict[str, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)  # of those that are not made from the variant's own network
    source: FloatParent | None = None  # what those are made from

    def leave_out(self, runtime: str, error: CompressError) -> None:
        """Leave out a runtime, and its file unless another runtime reads it."""
        self.left_out[runtime] = str(error)
        path = self.built.pop(runtime)
        if path not in self.built.values():
            shutil.rmtree(path.parent, ignore_errors=True)


def _none_built(files: _Files, stage: ExportStage) -> str:
    """Return the error of an export without a file."""
    if stage.auto:
        return "export failed for every installed runtime: " + "; ".join(files.left_out.values())
    return "; ".join(dict.fromkeys(files.left_out.values()))


def make_export(context: StageContext, planned: PlannedStage, folder: Path) -> None:
    """Write the artifacts of a variant and evaluate them."""
    stage = planned.stage
    assert isinstance(stage, ExportStage) and planned.parent
    if not planned.runtimes:
        raise CompressError(f"no installed runtime supports {planned.parent}; see `compress-model doctor`")
    variant = _load(context, planned.parent)
    files = _write(context, planned, variant, folder)
    rows = []
    for runtime, path in list(files.built.items()):
        if find_runtime(runtime).runs_on:
            rows.append(_not_run(runtime, path, variant, files))
            continue
        try:
            rows.append(_evaluate(context, runtime, path, variant, files))
        except CompressError as error:
            files.leave_out(runtime, error)
    for runtime, reason in files.left_out.items():
        say(f"  {runtime}: {'skipped' if stage.auto else 'failed'}: {reason}")
    if not files.built:
        raise CompressError(_none_built(files, stage))
    if stage.auto:
        _check_on_validation(context, variant, files, folder)
    elif files.left_out:
        FailedFiles(reasons=files.left_out).write(folder / FAILED)
    if stage.triton:
        _write_triton(context, variant, files, folder)
    for path in files.built.values():
        write_sums(path.parent)
    (folder / ROWS).write_bytes(ARTIFACTS.dump_json(tuple(rows), indent=1))


def _load(context: StageContext, identifier: str) -> _Variant:
    model, preprocess = context.classifier(identifier)
    stage = context.plan.stage(identifier).stage
    method = stage.own_method(context.recipe) if isinstance(stage, QuantizeStage) else None
    logits = np.load(context.folder(identifier) / LOGITS)
    return _Variant(identifier, model, preprocess, stage.is_quantized, method, logits)


def _write(context: StageContext, planned: PlannedStage, variant: _Variant, folder: Path) -> _Files:
    """Write the files into `folder`, replacing those of a killed run."""
    for left in ("artifacts", "triton"):
        shutil.rmtree(folder / left, ignore_errors=True)
    stage = planned.stage
    assert isinstance(stage, ExportStage)
    preprocess = preprocess_file(variant.preprocess, context.data.resolution, context.data.classes)
    parent = context.plan.stage(variant.id)
    methods = methods_by_runtime(parent.stage, context.recipe, planned.runtimes)
    own = [name for name in planned.runtimes if name not in methods]
    files = _Files({}, methods=methods, source=FloatParent(context, parent) if methods else None)
    target = folder / "artifacts"
    built = export(variant.model, target, own, preprocess, files.left_out, stage.opset) if own else {}
    if files.source:
        built |= files.source.export(methods, target, preprocess, files.left_out, stage)
    files.built = {name: built[name] for name in planned.runtimes if name in built}
    return files


def _write_triton(context: StageContext, variant: _Variant, files: _Files, folder: Path) -> None:
    """Write a model repository of the files that were evaluated."""
    if not set(BACKENDS) & set(files.built):
        say(f"  triton: skipped, as no file for {join_words(BACKENDS)} was made")
        return
    preprocess = preprocess_file(variant.preprocess, context.data.resolution, context.data.classes)
    write_triton(files.built, folder / "triton" / variant.id, preprocess)


def _check_on_validation(context: StageContext, variant: _Variant, files: _Files, folder: Path) -> None:
    """Write the validation loss of each artifact against PyTorch, and the skipped runtimes, for `runtimes: auto`."""
    validation, preprocess = context.rendered("validation", variant.preprocess)

    def predict(run: Runner) -> NDArray[np.int64]:
        classes: NDArray[np.int64] = predict_split_in_runtime(run, preprocess, validation, BATCH).argmax(1)
        return classes

    expected = predict(partial(run_eager, variant.model))
    checks = {}
    for runtime, path in files.built.items():
        predicted = predict(find_runtime(runtime).load(path))
        loss = float((expected == validation.labels).mean() - (predicted == validation.labels).mean())
        checks[runtime] = ValidationCheck(loss=loss, agreement=agreement(predicted, expected), n=len(validation))
    record = RuntimeChecks(validation=checks, left_out=files.left_out)
    record.write(folder / CHECKS)


def _evaluate(context: StageContext, runtime: str, path: Path, variant: _Variant, files: _Files) -> Artifact:
    """Evaluate an artifact in its runtime on the test split, and compare it with the network it was made from."""
    engine = find_runtime(runtime)
    coverage = engine.coverage(path)
    # A transformer has one convolution and nearly all of its MACs in linear layers.
    if variant.quantized and coverage.integer_convs == 0 and (coverage.share or 0) < MIN_INTEGER_SHARE:
        raise CompressError(
            f"{runtime} runs none of the {coverage.convs} convolutions of {variant.id} in integer arithmetic"
        )
    test, preprocess = context.rendered("test", variant.preprocess)
    label = f"{variant.id} in {runtime}: test images"
    with boundary("runtime", f"{variant.id} in {runtime}"):
        logits = predict_split_in_runtime(engine.load(path), preprocess, test, BATCH, progress=label)
    record = split_accuracy(logits, test, "test")
    expected, network = variant.logits, "PyTorch"
    if files.source and runtime in files.methods:
        expected, network = files.source.logits, "its float network"
    same = agreement(logits.argmax(1), expected.argmax(1))
    say(f"  {runtime}: top-1 {record.top1:.2%}, agrees with {network} on {same:.2%}")
    return Artifact(
        runtime=runtime,
        format=path.parent.name,
        path=_run_path(path, variant.id),
        bytes=artifact_bytes(path),
        top1=record.top1,
        ci95=record.ci95,
        right=bits(logits.argmax(1) == test.labels),
        top1_agreement=same,
        max_abs_diff=max_abs_diff(logits, expected),
        integer_convs=coverage.integer_convs,
        total_convs=coverage.convs,
        integer_macs_share=coverage.share,
        **_made_by(runtime, variant, files),
    )


def _made_by(runtime: str, variant: _Variant, files: _Files) -> dict[str, Any]:
    """Return the method that a file was quantized by, and what its own calibration cost."""
    if runtime not in files.methods or not files.source:
        return {"method": variant.method}
    return {"method": files.methods[runtime], "calibration_macs": files.source.calibration_macs}


def _not_run(runtime: str, path: Path, variant: _Variant, files: _Files) -> Artifact:
    """Record an artifact that does not run on this machine; its accuracy is unknown."""
    say(f"  {runtime}: {NOT_RUN}")
    return Artifact(
        runtime=runtime,
        format=path.parent.name,
        path=_run_path(path, variant.id),
        bytes=artifact_bytes(path),
        not_run=NOT_RUN,
        **_made_by(runtime, variant, files),
    )


def _run_path(path: Path, variant: str) -> str:
    """Return the path of an artifact within a run folder."""
    return f"artifacts/{variant}/{path.parent.name}/{path.name}"
