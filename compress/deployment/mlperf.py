"""MLPerf's load generator as benchmark driver: it decides which images come when, and what counts as a result.

Single-stream sends one image after another and reports the 90th percentile of the latency; offline sends all at once
and reports images per second. It is the generator alone, on noise: not a submission to MLPerf, whose rules require its
models, its data and ten minutes. https://github.com/mlcommons/inference/tree/master/loadgen
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from compress.deployment.artifact import Artifact
from compress.deployment.runtime import Array, Runner
from compress.utils.errors import CompressError

PACKAGE, MODULE = "mlcommons-loadgen", "mlperf_loadgen"
MIN_IMAGES = 64  # different ones
MIN_QUERIES = 64  # that single-stream needs for its estimate of the 90th percentile
MARGIN = 1.5  # of the images in an offline test over those that would fill its time at the rate measured before


class ScenarioResult(TypedDict):
    """Result of one test; percentiles are None offline, where all images come at once.

    `reason` is the generator's, where a result is not valid.
    """

    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    images_per_s: float
    valid: bool
    reason: str | None


class MlperfRow(ScenarioResult):
    """Result of one artifact, by its number, in one scenario."""

    number: int
    scenario: str
    batch: int


def require_loadgen() -> None:
    """Raise a `CompressError` unless the load generator is installed."""
    if importlib.util.find_spec(MODULE) is None:
        raise CompressError(f"--driver mlperf needs {PACKAGE}: pip install 'compress-model[mlperf]'")


def run_loadgen(artifacts: Sequence[Artifact], batch: int, seconds: float) -> list[MlperfRow]:
    """Run both scenarios for each artifact, one after another, each test for at least `seconds`."""
    return [
        {"number": number, "scenario": scenario, "batch": size, **_test(artifact, scenario, size, seconds)}
        for number, artifact in enumerate(artifacts, 1)
        for scenario, size in (("SingleStream", 1), ("Offline", batch))
    ]


def _test(artifact: Artifact, scenario: str, batch: int, seconds: float) -> ScenarioResult:
    import mlperf_loadgen as generator

    run = artifact.embed or artifact.run  # a class list is not timed, as in interleaved rounds
    images = artifact.preprocess.noise(max(MIN_IMAGES, batch))

    def issue(queries: Any) -> None:
        for start in range(0, len(queries), batch):
            part = queries[start : start + batch]
            first = part[0].index
            # A slice is no copy, which would be timed; a batch of any images has to be gathered, as in deployment.
            run(images[first : first + 1] if len(part) == 1 else images[[query.index for query in part]])
            generator.QuerySamplesComplete([generator.QuerySampleResponse(query.id, 0, 0) for query in part])

    settings = generator.TestSettings()
    settings.scenario = getattr(generator.TestScenario, scenario)
    settings.mode = generator.TestMode.PerformanceOnly
    settings.min_duration_ms = int(1000 * seconds)
    settings.min_query_count = MIN_QUERIES if scenario == "SingleStream" else 1
    rate = _rate(run, images[:batch])
    settings.single_stream_expected_latency_ns = int(1e9 / rate)
    settings.offline_expected_qps = MARGIN * rate
    system = generator.ConstructSUT(issue, _nothing)
    library = generator.ConstructQSL(len(images), len(images), _nothing, _nothing)
    try:
        return _result(_run(generator, system, library, settings), scenario)
    finally:
        generator.DestroyQSL(library)
        generator.DestroySUT(system)


def _run(generator: Any, system: Any, library: Any, settings: Any) -> Mapping[str, Any]:
    """Run a test, and read its log: one JSON object per line, free-form values by key."""
    with tempfile.TemporaryDirectory() as folder:
        output = generator.LogOutputSettings()
        output.outdir, output.copy_summary_to_stdout = folder, False
        logs = generator.LogSettings()
        logs.log_output, logs.enable_trace = output, False
        generator.StartTestWithLogSettings(system, library, settings, logs)
        lines = (Path(folder) / "mlperf_log_detail.txt").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line.removeprefix(":::MLLOG ")) for line in lines]
    return {entry["key"]: entry["value"] for entry in entries}


def _result(log: Mapping[str, Any], scenario: str) -> ScenarioResult:
    single = scenario == "SingleStream"
    p50, p90, p99 = (
        log[f"result_{percent}.00_percentile_latency_ns"] / 1e6 if single else None for percent in (50, 90, 99)
    )
    valid = log["result_validity"] == "VALID"
    return ScenarioResult(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        images_per_s=float(log["result_qps_with_loadgen_overhead" if single else "result_samples_per_second"]),
        valid=valid,
        reason=None if valid else str(log.get("result_invalid_reason", "")).strip(),
    )


def _rate(run: Runner, images: Array) -> float:
    """Measure images per second over some runs."""
    run(images)
    started, runs = time.perf_counter(), 0
    while runs < 3 or time.perf_counter() - started < 0.5:
        run(images)
        runs += 1
    return runs * len(images) / (time.perf_counter() - started)


def _nothing(*_: object) -> None:
    """Callback of the generator without work to do: the images are in memory."""
