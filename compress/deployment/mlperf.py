"""MLPerf's load generator in the place of turns: it decides which images come when, and what counts as a result.

Single-stream sends one image after another and tells the latency's 90th percentile; offline sends all at once and tells
images a second. It is the generator alone, on noise: no submission to MLPerf, whose rules ask for its models, its data
and ten minutes. https://github.com/mlcommons/inference/tree/master/loadgen
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compress.deployment.artifact import Artifact
from compress.deployment.runtimes import Runner
from compress.utils.errors import CompressError

PACKAGE, MODULE = "mlcommons-loadgen", "mlperf_loadgen"
IMAGES = 64  # different ones
ENOUGH_QUERIES = 64  # of which single-stream needs so many for its estimate of the 90th percentile
MARGIN = 1.5  # of images in an offline test over those that a rate measured before would take all the time for

Record = dict[str, Any]


def require_loadgen() -> None:
    """See that the load generator is installed.

    Raises:
        CompressError: it is not.
    """
    if importlib.util.find_spec(MODULE) is None:
        raise CompressError(f"--driver mlperf needs {PACKAGE}: pip install 'compress-model[mlperf]'")


def drive(artifacts: Sequence[Artifact], batch: int, seconds: float) -> list[Record]:
    """Both scenarios for each artifact, one after another.

    Args:
        artifacts: What is timed.
        batch: Images that go through at once where all are there, in the offline scenario.
        seconds: Shortest time of a test.

    Returns:
        Rows `{number, scenario, batch, p50_ms, p90_ms, p99_ms, images_per_s, valid, reason}`. Of offline there
        are no percentiles (None): all images came at once. `reason` is the generator's, where a result is not valid.
    """
    return [
        {"number": number, **_test(artifact, scenario, size, seconds)}
        for number, artifact in enumerate(artifacts, 1)
        for scenario, size in (("SingleStream", 1), ("Offline", batch))
    ]


def _test(artifact: Artifact, scenario: str, batch: int, seconds: float) -> Record:
    import mlperf_loadgen as generator

    side = artifact.preprocess.resolution
    pixels = np.random.default_rng(0).integers(0, 256, (max(IMAGES, batch), 3, side, side), np.uint8)
    images = artifact.preprocess.normalise(pixels)

    def issue(queries: Any) -> None:
        for start in range(0, len(queries), batch):
            part = queries[start : start + batch]
            artifact.run(images[[query.index for query in part]])
            generator.QuerySamplesComplete([generator.QuerySampleResponse(query.id, 0, 0) for query in part])

    settings = generator.TestSettings()
    settings.scenario = getattr(generator.TestScenario, scenario)
    settings.mode = generator.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = ENOUGH_QUERIES if scenario == "SingleStream" else 1
    rate = _rate(artifact.run, images[:batch])
    settings.single_stream_expected_latency_ns = int(1e9 / rate)
    settings.offline_expected_qps = MARGIN * rate
    system = generator.ConstructSUT(issue, _nothing)
    library = generator.ConstructQSL(len(images), len(images), _nothing, _nothing)
    try:
        found = _run(generator, system, library, settings)
    finally:
        generator.DestroyQSL(library)
        generator.DestroySUT(system)
    return {"scenario": scenario, "batch": batch, **_record(found, scenario)}


def _run(generator: Any, system: Any, library: Any, settings: Any) -> dict[str, Any]:
    """Run a test, and read its log: one JSON object a line."""
    with tempfile.TemporaryDirectory() as folder:
        output = generator.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = generator.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        generator.StartTestWithLogSettings(system, library, settings, logs)
        lines = (Path(folder) / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    return {entry["key"]: entry["value"] for entry in entries}


def _record(found: dict[str, Any], scenario: str) -> Record:
    single = scenario == "SingleStream"
    percentiles = {
        f"p{share}_ms": found[f"result_{share}.00_percentile_latency_ns"] / 1e6 if single else None
        for share in (50, 90, 99)
    }
    rate = found["result_qps_with_loadgen_overhead" if single else "result_samples_per_second"]
    valid = found["result_validity"] == "VALID"
    return {
        **percentiles,
        "images_per_s": float(rate),
        "valid": valid,
        "reason": None if valid else str(found.get("result_invalid_reason", "")).strip(),
    }


def _rate(run: Runner, images: np.ndarray[Any, Any]) -> float:
    """Images a second, of some runs."""
    run(images)
    started, runs = time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - started < 0.5:
        run(images)
        runs += 1
    return runs * len(images) / (time.perf_counter() - started)


def _nothing(*_: object) -> None:
    """What the generator asks for and these images do not need: they lie in memory."""
