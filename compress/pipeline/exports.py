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

from compress.data.arrays import Split
from compress.data.preprocess import Preprocess
from compress.deployment.export import artifact_bytes, export
from compress.deployment.runtimes import find_runtime, thread_count
from compress.deployment.triton import write_triton
from compress.errors import CompressError
from compress.measurement.accuracy import accuracy_record, agreement, max_abs_diff, predict
from compress.measurement.latency import measure_in_turns, summary
from compress.measurement.memory import peak_memory
from compress.pipeline.plan import Unit
from compress.pipeline.work import Work
from compress.progress import say, task
from compress.recipe.schema import ExportStage, QuantizeStage
from compress.sums import write_sums

PYTORCH = "pytorch"  # eager: the baseline that everybody has


def make_export(work: Work, unit: Unit, folder: Path) -> None:
    """Write the artifacts of one variant, and put the whole test split through each."""
    stage = unit.stage
    assert isinstance(stage, ExportStage) and unit.parent
    model, preprocess = work.network(unit.parent)
    about = {
        **preprocess.to_dict(),
        "stored_resolution": work.data.resolution,
        "classes": list(work.data.classes),
    }
    for left in ("artifacts", "triton"):  # by a killed run
        shutil.rmtree(folder / left, ignore_errors=True)
    built = export(model, folder / "artifacts", stage.runtimes, about)
    if stage.triton:
        write_triton(built, folder / "triton" / unit.parent, about)
    expected = np.load(work.folder(unit.parent) / "test_logits.npy")
    quantized = isinstance(work.plan.unit(unit.parent).stage, QuantizeStage)
    rows = [
        _check(runtime, path, preprocess, work.data.test, expected, quantized, unit.parent)
        for runtime, path in built.items()
    ]
    for path in built.values():
        write_sums(path.parent)
    (folder / "artifacts.json").write_text(json.dumps(rows, indent=1))


def _check(
    runtime: str, path: Path, preprocess: Preprocess, test: Split, expected: np.ndarray, quantized: bool, variant: str
) -> dict[str, Any]:
    module = find_runtime(runtime)
    integer, convolutions = module.coverage(path)
    if quantized and integer == 0:
        raise CompressError(f"{runtime} runs none of the {convolutions} convolutions of {variant} in integer")
    logits = predict(module.load(path), _batches(preprocess, test, f"{variant} in {runtime}"))
    assert test.labels is not None
    record = accuracy_record(logits.argmax(1), test.labels, "test")
    same = agreement(logits.argmax(1), expected.argmax(1))
    say(f"  {runtime}: top-1 {record['top1']:.2%}, the same answer as PyTorch on {same:.2%}")
    return {
        "runtime": runtime,
        "format": path.parent.name,
        "path": f"artifacts/{variant}/{path.parent.name}/{path.name}",
        "bytes": artifact_bytes(path),
        "top1": record["top1"],
        "ci95": record["ci95"],
        "top1_agreement": same,
        "max_abs_diff": max_abs_diff(logits, expected),
        "integer_convs": integer,
        "total_convs": convolutions,
    }


def _batches(preprocess: Preprocess, test: Split, what: str, size: int = 50) -> Iterator[np.ndarray]:
    with task(f"{what}: test images", len(test)) as advance:
        for start in range(0, len(test), size):
            images = torch.from_numpy(np.array(test.images[start : start + size]))
            yield preprocess(images).numpy()
            advance(len(images))


@dataclass(frozen=True)
class Timed:
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
    def of(cls, work: Work) -> Timed:
        """Load all variants, in all runtimes that they have files for."""
        threads = thread_count(work.recipe.measure.threads)
        torch.set_num_threads(threads)
        networks = {unit.id: work.network(unit.id) for unit in work.plan.variants}
        return cls(networks, _runners(work, networks, threads), threads)


def setting(work: Work, timed: Timed, variant: str, runtime: str, batch: int) -> dict[str, Any]:
    """What a figure of a variant holds for."""
    return {
        "runtime": runtime,
        "precision": "int8" if isinstance(work.plan.unit(variant).stage, QuantizeStage) else "fp32",
        "batch": batch,
        "threads": timed.threads,
        "resolution": timed.networks[variant][1].resolution,
    }


def measure_latency(work: Work, folder: Path) -> None:
    """Time all variants in turns, runtime by runtime and batch by batch, and take their peak memory."""
    settings = work.recipe.measure
    timed = Timed.of(work)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in timed.networks}
    with task("latency", len(timed.runners) * len(settings.batches)) as advance:
        for runtime, by_variant in timed.runners.items():
            for batch in settings.batches:
                test = work.data.test
                images = {name: first_images(timed.networks[name][1], test, batch) for name in by_variant}
                candidates = {name: partial(run, images[name]) for name, run in by_variant.items()}
                times = measure_in_turns(candidates, settings.rounds)
                reference = times.get(work.recipe.worth.references[0])
                for name, taken in times.items():
                    rows[name].append({**setting(work, timed, name, runtime, batch), **summary(taken, reference)})
                advance()
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    record = {"latency": rows, "peak_memory_bytes": _memory(work, max(settings.batches)), "gpu": gpu}
    (folder / "latency.json").write_text(json.dumps(record, indent=1))


def _runners(work: Work, networks: dict[str, Any], threads: int) -> dict[str, dict[str, Callable[..., Any]]]:
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


def _artifacts(work: Work, unit: Unit) -> list[tuple[str, Path]]:
    folder = work.folder(unit.id)
    rows = json.loads((folder / "artifacts.json").read_text())
    return [(row["runtime"], folder / "artifacts" / row["format"] / Path(row["path"]).name) for row in rows]


@torch.inference_mode()
def _eager(model: torch.nn.Module, images: np.ndarray) -> None:
    model(torch.from_numpy(images).contiguous(memory_format=torch.channels_last))


def first_images(preprocess: Preprocess, test: Split, batch: int) -> np.ndarray:
    """The first test images as a batch, float32 `[batch, 3, r, r]`; over again where they are fewer."""
    rows = np.arange(batch) % len(test)
    return preprocess(torch.from_numpy(test.images[rows])).contiguous().numpy()


def _memory(work: Work, batch: int) -> dict[str, int | None]:
    """Peak memory of a process that runs the first artifact of each variant; None where there is none."""
    memory: dict[str, int | None] = {unit.id: None for unit in work.plan.variants}
    for unit in work.plan.exports:
        assert unit.parent
        runtime, path = _artifacts(work, unit)[0]
        memory[unit.parent] = peak_memory(path, runtime, batch)
    return memory
