"""Parts of `gpu_check` that say how long inference takes on the device: by number format, and compiled."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from compress.data.prepared import prepare
from compress.measurement import cuda
from compress.measurement.counters import CounterError, find_counter
from compress.measurement.device import numerics
from compress.measurement.energy import measure_energy
from compress.measurement.latency import Timer, measure_interleaved, summary, time_runs
from compress.models.onnx_network import OnnxNetwork
from compress.pipeline.plan import make_plan
from compress.recipe.load import load_recipe
from compress.stages.context import StageContext
from compress.store.store import Store
from compress.utils.machine_faults import is_out_of_memory

if TYPE_CHECKING:
    from _gpu_parts import Result, Setting


@dataclass(frozen=True)
class Precision:
    """A number format of inference."""

    dtype: torch.dtype
    tf32: bool = False

    @contextmanager
    def computing(self, device: torch.device) -> Iterator[None]:
        if device.type != "cuda":
            yield
            return
        with numerics(tf32=self.tf32, autotune=True, deterministic=False):  # as a deployment would
            yield


PRECISIONS = {
    "fp32": Precision(torch.float32),
    "tf32": Precision(torch.float32, tf32=True),
    "fp16": Precision(torch.float16),
    "bf16": Precision(torch.bfloat16),
}
VARIANTS = ("teacher", "distilled", "pruned")
MAX_BATCH = 4096
GAIN = 1.05  # in images per second that a doubled batch must bring
TIMED = 5  # runs of each batch size
NO_INT8 = "integer kernels on a GPU need TensorRT or ONNX Runtime's CUDA provider"


def latency(setting: Setting) -> Result:
    """Time the networks of the quickstart, which must have run, by number format at batch 1 and at the best batch."""
    networks = made_networks(setting)
    if not networks:
        return {"passed": False, "error": "the part `quickstart` has not run"}
    before, rows = clocks(setting), list[dict[str, Any]]()
    for name, precision in PRECISIONS.items():
        if setting.tiny and name != "fp32":
            continue
        with precision.computing(setting.device), torch.inference_mode():
            rows += _rows(networks, name, precision, setting)
    return {"passed": bool(rows), "rows": rows, "clocks": {"before": before, "after": clocks(setting)}, "int8": NO_INT8}


def compiled(setting: Setting) -> Result:
    """Time the same networks compiled, in FP16, as many as there is time for."""
    started, rows = time.monotonic(), list[dict[str, Any]]()
    precision = PRECISIONS["fp32" if setting.tiny else "fp16"]
    options: dict[str, Any] = {"backend": "eager"} if setting.tiny else {"mode": "reduce-overhead"}
    left_out = []
    for variant, (model, side) in made_networks(setting).items():
        taken = time.monotonic() - started
        if rows and taken + taken / len(rows) > 0.9 * setting.limit_s:
            left_out.append(variant)
            continue
        with precision.computing(setting.device), torch.no_grad():
            network = copy.deepcopy(model).to(setting.device, precision.dtype, memory_format=torch.channels_last)
            run = torch.compile(network, dynamic=False, **options)  # for each batch size, as Inductor files are
            rows.append({"variant": variant, "dtype": str(precision.dtype)})
            for batch in (1, 64) if not setting.tiny else (1,):
                images = _noise(batch, side, setting, precision)
                for _ in range(3):  # compiles, and captures the graph
                    run(images)
                times = timer_of(setting)(partial(run, images), 30)
                rows[-1][f"batch{batch}_ms"] = float(np.median(times))
    return {"passed": bool(rows), "rows": rows, "left_out": left_out}


def made_networks(setting: Setting) -> dict[str, tuple[nn.Module, int]]:
    """Return the float networks that the part `quickstart` has made, and the sides of their images."""
    folder = setting.run_folder
    if folder is None:
        return {}
    recipe, store = load_recipe(setting.recipe), Store(folder / "store")
    context = StageContext(make_plan(recipe, store), store, prepare(recipe.data, store, recipe.seed))
    made = [planned.id for planned in context.plan.variants if planned.id in VARIANTS and store.has(planned.key)]
    found = {name: context.classifier(name) for name in made}
    return {
        name: (model.eval(), preprocess.resolution)
        for name, (model, preprocess) in found.items()
        if not isinstance(model, OnnxNetwork)
    }


def clocks(setting: Setting) -> dict[str, Any] | None:
    """Return the clocks of the GPU now."""
    now = cuda.clocks(setting.device.index or 0) if setting.device.type == "cuda" else None
    return now and asdict(now)


def timer_of(setting: Setting) -> Timer:
    """Return what times runs on the device."""
    return cuda.timer_on(setting.device) if setting.device.type == "cuda" else time_runs


def throughput_by_batch(
    make_run: Callable[[int], Callable[[], object]], timer: Timer, most: int = MAX_BATCH
) -> dict[int, float]:
    """Return images per second by batch size, doubled from 1 until a batch brings no more, or memory runs out.

    Args:
        make_run: Returns the function that runs a batch of so many images.
        timer: Returns milliseconds of runs; see `compress.measurement.cuda.timer_on`.
        most: Largest batch size.
    """
    found: dict[int, float] = {}
    batch = 1
    while batch <= most:
        try:
            run = make_run(batch)
            timer(run, 2)  # warm-up
            found[batch] = 1000 * batch / min(timer(run, TIMED))
        except RuntimeError as error:
            if not found or not is_out_of_memory(error):
                raise
            break
        halves = found.get(batch // 2)
        if halves and found[batch] < GAIN * halves:
            break
        batch *= 2
    return found


def _noise(batch: int, side: int, setting: Setting, precision: Precision) -> Tensor:
    images = torch.rand(batch, 3, side, side, device=setting.device)
    return images.to(precision.dtype, memory_format=torch.channels_last)


def _rows(
    networks: dict[str, tuple[nn.Module, int]], name: str, precision: Precision, setting: Setting
) -> list[dict[str, Any]]:
    device, timer = setting.device, timer_of(setting)
    models = {
        variant: (copy.deepcopy(model).to(device, precision.dtype, memory_format=torch.channels_last), side)
        for variant, (model, side) in networks.items()
    }

    def run(variant: str, batch: int) -> Callable[[], object]:
        model, side = models[variant]
        return partial(model, _noise(batch, side, setting, precision))

    most = 2 if setting.tiny else MAX_BATCH
    best = {variant: throughput_by_batch(partial(run, variant), timer, most) for variant in models}
    batches = {variant: max(rates, key=lambda batch: rates[batch]) for variant, rates in best.items()}
    rounds = 3 if setting.tiny else 30
    single = measure_interleaved({variant: run(variant, 1) for variant in models}, rounds, timer=timer)
    reference = [single[next(iter(models))]]
    rows = []
    for variant in models:
        record, batch = summary([single[variant]], reference), batches[variant]
        rows.append(
            {
                "variant": variant,
                "precision": name,
                "batch1_ms": record["p50_ms"],
                "ratio_to_teacher": record["ratio_to_reference"],
                "ratio_ci95": record["ratio_ci95"],
                "best_batch": batch,
                "images_per_s": best[variant][batch],
                "images_per_s_by_batch": best[variant],
                **_peak_and_energy(run(variant, batch), batch, setting),
            }
        )
    return rows


def _peak_and_energy(run: Callable[[], object], batch: int, setting: Setting) -> dict[str, Any]:
    """Return peak memory and energy per image at the best batch; null where there is no GPU or counter."""
    if setting.device.type != "cuda":
        return {"peak_bytes": None, "joules_per_image": None}
    found: dict[str, Any] = {"peak_bytes": cuda.peak_bytes(run, setting.device), "joules_per_image": None}
    lookup = find_counter("cuda", setting.device.index or 0)
    found["energy"] = lookup.detail
    if lookup.counter:
        try:
            energy = measure_energy(run, lookup.counter, batch, at_least_s=2.0, idle_s=1.0)
            found |= {"joules_per_image": energy.value, "idle_w": energy.idle_w, "energy": energy.method}
        except CounterError as error:
            found["energy"] = str(error)
    return found
