"""Artifacts of variants, what they answer in their runtimes, and how fast they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compress.data.prepared import Split
from compress.data.preprocess import Preprocess
from compress.deployment.export import artifact_bytes, export
from compress.deployment.runtimes import Runner, elsewhere, find_runtime, thread_count
from compress.deployment.triton import write_triton
from compress.measurement.accuracy import accuracy_record, agreement, max_abs_diff
from compress.measurement.latency import measure_interleaved, summary
from compress.measurement.memory import peak_memory
from compress.measurement.predict import predict
from compress.pipeline.plan import PlannedStage
from compress.recipe.schema import ExportStage, QuantizeStage, Stage
from compress.stages.context import StageContext
from compress.stages.runtime_selection import FILE as AUTO
from compress.stages.runtime_selection import check_on_validation, choices, validation_logits
from compress.utils.checksums import write_sums
from compress.utils.console import say, task
from compress.utils.errors import CompressError

PYTORCH = "pytorch"  # eager: the baseline that everybody has
MIN_INTEGER_SHARE = 0.5  # share of the MACs of a quantized network without an integer convolution
NOT_RUN = "written, format checked, not run here"


def make_export(work: StageContext, unit: PlannedStage, folder: Path) -> None:
    """Write the artifacts of one variant, and put the whole test split through each."""
    stage = unit.stage
    assert isinstance(stage, ExportStage) and unit.parent
    model, preprocess = work.network(unit.parent)
    about = {
        **preprocess.to_dict(),
        "stored_resolution": work.data.resolution,
        "classes": list(work.data.classes),
    }
    if not unit.runtimes:
        raise CompressError(f"none of the runtimes that take {unit.parent} is here: `compress-model doctor` says more")
    for left in ("artifacts", "triton"):  # by a killed run
        shutil.rmtree(folder / left, ignore_errors=True)
    left_out: dict[str, str] = {}
    built = export(model, folder / "artifacts", unit.runtimes, about, left_out if stage.auto else None)
    if stage.triton:
        write_triton(built, folder / "triton" / unit.parent, about)
    expected = np.load(work.folder(unit.parent) / "test_logits.npy")
    quantized = isinstance(work.plan.unit(unit.parent).stage, QuantizeStage)
    rows = []
    for runtime, path in list(built.items()):
        if elsewhere(runtime):
            rows.append(_written(runtime, path, unit.parent))
            continue
        try:
            rows.append(_check(runtime, path, preprocess, work.data.test, expected, quantized, unit.parent))
        except CompressError as error:
            if not stage.auto:
                raise
            left_out[runtime] = str(error)
            del built[runtime]
    if stage.auto:
        _compare(work, unit, folder, built, left_out, model, preprocess)
    for path in built.values():
        write_sums(path.parent)
    (folder / "artifacts.json").write_text(json.dumps(rows, indent=1))


def _compare(
    work: StageContext,
    unit: PlannedStage,
    folder: Path,
    built: dict[str, Path],
    left_out: dict[str, str],
    model: torch.nn.Module,
    preprocess: Preprocess,
) -> None:
    """Of `runtimes: auto`: what the files lose on validation, and which runtimes are left out."""
    for runtime, reason in left_out.items():
        say(f"  {runtime} is left out: {reason}")
    if not built:
        raise CompressError("no runtime that is here takes it: " + "; ".join(left_out.values()))

    def answer(run: Runner | None) -> np.ndarray:
        return validation_logits(work, preprocess, run or partial(_eager, model))

    validation = check_on_validation(work, unit, built, answer)
    (folder / AUTO).write_text(json.dumps({"validation": validation, "left_out": left_out}, indent=1))


def _written(runtime: str, path: Path, variant: str) -> dict[str, Any]:
    """A file that runs elsewhere: nothing is known of its answers."""
    say(f"  {runtime}: {NOT_RUN}")
    unknown = ("top1", "ci95", "top1_agreement", "max_abs_diff", "integer_convs", "total_convs", "integer_macs_share")
    return {**_file(runtime, path, variant), **dict.fromkeys(unknown), "not_run": NOT_RUN}


def _file(runtime: str, path: Path, variant: str) -> dict[str, Any]:
    return {
        "runtime": runtime,
        "format": path.parent.name,
        "path": f"artifacts/{variant}/{path.parent.name}/{path.name}",
        "bytes": artifact_bytes(path),
    }


def _check(
    runtime: str, path: Path, preprocess: Preprocess, test: Split, expected: np.ndarray, quantized: bool, variant: str
) -> dict[str, Any]:
    module = find_runtime(runtime)
    coverage = module.coverage(path)
    # A transformer has one convolution, and nearly all of its work in linears.
    if quantized and coverage.integer_convs == 0 and (coverage.share or 0) < MIN_INTEGER_SHARE:
        raise CompressError(f"{runtime} runs none of the {coverage.convs} convolutions of {variant} in integer")
    logits = predict(module.load(path), _batches(preprocess, test, f"{variant} in {runtime}"))
    assert test.labels is not None
    record = accuracy_record(logits.argmax(1), test.labels, "test")
    same = agreement(logits.argmax(1), expected.argmax(1))
    say(f"  {runtime}: top-1 {record['top1']:.2%}, the same answer as PyTorch on {same:.2%}")
    return {
        **_file(runtime, path, variant),
        "top1": record["top1"],
        "ci95": record["ci95"],
        "top1_agreement": same,
        "max_abs_diff": max_abs_diff(logits, expected),
        "integer_convs": coverage.integer_convs,
        "total_convs": coverage.convs,
        "integer_macs_share": coverage.share,
    }


def _batches(preprocess: Preprocess, test: Split, what: str, size: int = 50) -> Iterator[np.ndarray]:
    with task(f"{what}: test images", len(test)) as advance:
        for start in range(0, len(test), size):
            images = torch.from_numpy(np.array(test.images[start : start + size]))
            yield preprocess(images).numpy()
            advance(len(images))


@dataclass(frozen=True)
class BenchTargets:
    """What is measured on the machine.

    Attributes:
        networks: Of each variant the network, and what images go through before it.
        runners: What runs a batch, by runtime and variant.
        threads: Threads of each of them.
    """

    networks: dict[str, tuple[torch.nn.Module, Preprocess]]
    runners: dict[str, dict[str, Callable[..., Any]]]
    threads: int

    @classmethod
    def of(cls, work: StageContext) -> BenchTargets:
        """Load all variants, in all runtimes that they have files for; PyTorch's threads are the caller's to set."""
        threads = thread_count(work.recipe.measure.threads)
        networks = {unit.id: work.network(unit.id) for unit in work.plan.variants}
        return cls(networks, _runners(work, networks, threads), threads)


def setting(work: StageContext, timed: BenchTargets, variant: str, runtime: str, batch: int) -> dict[str, Any]:
    """What a figure of a variant holds for."""
    return {
        "runtime": runtime,
        "precision": _precision(work.plan.unit(variant).stage),
        "batch": batch,
        "threads": timed.threads,
        "resolution": timed.networks[variant][1].resolution,
    }


def _precision(stage: Stage) -> str:
    if not isinstance(stage, QuantizeStage):
        return "fp32"
    return "int8" if stage.linear_weight_bits == 8 else "int8/int4"


def measure_latency(work: StageContext, folder: Path) -> None:
    """Time all variants in turns, runtime by runtime and batch by batch, and take their peak memory."""
    settings = work.recipe.measure
    timed = BenchTargets.of(work)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in timed.networks}
    with task("latency", len(timed.runners) * len(settings.batches)) as advance:
        for runtime, by_variant in timed.runners.items():
            for batch in settings.batches:
                test = work.data.test
                images = {name: first_images(timed.networks[name][1], test, batch) for name in by_variant}
                candidates = {name: partial(run, images[name]) for name, run in by_variant.items()}
                times = measure_interleaved(candidates, settings.rounds)
                reference = times.get(work.recipe.worth.references[0])
                for name, taken in times.items():
                    rows[name].append({**setting(work, timed, name, runtime, batch), **summary(taken, reference)})
                advance()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    memory, basis = _memory(work, max(settings.batches))
    chosen = choices(
        work, timed.runners, lambda name, batch: first_images(timed.networks[name][1], work.data.test, batch)
    )
    for name, by_batch in chosen.items():
        for choice in by_batch:
            say(f"  {name}, batch {choice['batch']}: {choice['runtime'] or 'no file holds the accuracy'}")
    record = {
        "latency": rows,
        "choices": chosen,
        "peak_memory_bytes": memory,
        "peak_memory_basis": basis,
        "gpu": gpu,
    }
    (folder / "latency.json").write_text(json.dumps(record, indent=1))


def _runners(work: StageContext, networks: dict[str, Any], threads: int) -> dict[str, dict[str, Callable[..., Any]]]:
    """What to time, by runtime and variant. A quantized graph in eager PyTorch only simulates integers: not timed."""
    runners: dict[str, dict[str, Callable[..., Any]]] = {PYTORCH: {}}
    for unit in work.plan.variants:
        if not isinstance(unit.stage, QuantizeStage):
            runners[PYTORCH][unit.id] = partial(_eager, networks[unit.id][0].to(memory_format=torch.channels_last))
    for unit in work.plan.exports:
        assert unit.parent
        for runtime, path in _artifacts(work, unit):
            runners.setdefault(runtime, {})[unit.parent] = find_runtime(runtime).load(path, threads)
    return runners


def _artifacts(work: StageContext, unit: PlannedStage) -> list[tuple[str, Path]]:
    """The artifacts that run here."""
    folder = work.folder(unit.id)
    rows = json.loads((folder / "artifacts.json").read_text())
    return [
        (row["runtime"], folder / "artifacts" / row["format"] / Path(row["path"]).name)
        for row in rows
        if not row.get("not_run")
    ]


@torch.inference_mode()
def _eager(model: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    return model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last)).numpy()  # type: ignore[no-any-return]


def first_images(preprocess: Preprocess, test: Split, batch: int) -> np.ndarray:
    """The first test images as a batch, float32 `[batch, 3, r, r]`; over again where they are fewer."""
    rows = np.arange(batch) % len(test)
    return preprocess(torch.from_numpy(test.images[rows])).contiguous().numpy()


def _memory(work: StageContext, batch: int) -> tuple[dict[str, int | None], dict[str, dict[str, Any]]]:
    """Peak memory of a process that runs the first artifact of each variant, None where there is none, and in what."""
    memory: dict[str, int | None] = {unit.id: None for unit in work.plan.variants}
    basis: dict[str, dict[str, Any]] = {}
    for unit in work.plan.exports:
        assert unit.parent
        for runtime, path in _artifacts(work, unit)[:1]:
            memory[unit.parent] = peak_memory(path, runtime, batch)
            basis[unit.parent] = {"runtime": runtime, "batch": batch}
    return memory, basis
