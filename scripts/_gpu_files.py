"""Part of `gpu_check` that exports the quickstart's student to each runtime of the GPU and measures the files."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from _gpu_latency import made_networks

from compress.deployment.export import Target, export_files
from compress.deployment.preprocess_file import PreprocessFile
from compress.deployment.runtimes import find_runtime, missing
from compress.deployment.trial import find_crashes
from compress.measurement.latency import measure_interleaved, summary
from compress.models.eager import run_eager

if TYPE_CHECKING:
    from pathlib import Path

    from _gpu_parts import Result, Setting

RUNTIMES = ("inductor-cuda", "tensorrt-engine", "onnxruntime-cuda", "onnxruntime-tensorrt")
STUDENT = "distilled"
IMAGES = 256
ROUNDS = 30
SAME = 0.95  # share of equal predictions on noise, where many are close calls


def files(setting: Setting) -> Result:
    """Write, check and time the student's files: from images in memory to logits in memory, copies included.

    Each row has the largest difference from PyTorch's logits in FP32, the share of equal predictions, what the runtime
    says that it ran in, and medians at batches of 1 and 32. Runtimes whose packages are not here are named.
    """
    networks = made_networks(setting)
    if STUDENT not in networks:
        return {"passed": False, "error": "the part `quickstart` has not run"}
    model, side = networks[STUDENT]
    absent = {name: missing(name) for name in (("onnxruntime",) if setting.tiny else RUNTIMES)}
    images = np.random.default_rng(0).standard_normal((IMAGES, 3, side, side)).astype(np.float32)
    with torch.inference_mode():
        expected = run_eager(model, images)
    started = time.monotonic()
    rows: list[dict[str, Any]] = []
    targets = [
        Target(name, each) for name, lacks in absent.items() if not lacks for each in find_runtime(name).precisions
    ]
    for target in targets:
        if rows and time.monotonic() - started > 0.8 * setting.limit_s:
            rows.append({**target._asdict(), "error": "left out: the time was over"})
            continue
        try:
            rows.append(_row(target, model, images, expected, setting.work / "files"))
        except Exception as error:  # whatever one of them raises, the others have their turn
            rows.append({**target._asdict(), "error": f"{type(error).__name__}: {error}"})
    return {
        "passed": bool(rows) and all("error" not in row and row["agreement"] >= SAME for row in rows),
        "rows": rows,
        "absent": {name: lacks for name, lacks in absent.items() if lacks},
    }


def _row(target: Target, model: Any, images: Any, expected: Any, folder: Path) -> dict[str, Any]:
    preprocess: PreprocessFile = {"resolution": images.shape[-1], "classes": []}
    started = time.monotonic()
    path = export_files(model, folder, [target], preprocess)[target]
    built_s, runtime = time.monotonic() - started, find_runtime(target.runtime)
    if crash := find_crashes({target.name: (target.runtime, path)}):
        raise RuntimeError(crash[target.name])
    run = runtime.load(path)
    logits, coverage = run(images), runtime.coverage(path)
    runs: dict[str, Callable[[], object]] = {str(batch): partial(run, images[:batch]) for batch in (1, 32)}
    times = measure_interleaved(runs, ROUNDS)
    return {
        **target._asdict(),
        "build_s": round(built_s, 1),
        "bytes": path.stat().st_size,
        "max_abs_diff": float(np.abs(logits - expected).max()),
        "agreement": float((logits.argmax(1) == expected.argmax(1)).mean()),
        "ran_in": coverage.precisions,
        **{f"batch{batch}_ms": summary([times[batch]], [times[batch]])["p50_ms"] for batch in runs},
    }
