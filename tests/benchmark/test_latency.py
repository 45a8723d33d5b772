"""Latency of a run in fresh processes: every variant in every runtime, eager PyTorch included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support import Job

from compress.efficiency.timing import latency_ratio
from compress.results import LatencyRow


def test_every_runtime_is_timed_in_fresh_processes(done_job: Callable[[], Job]) -> None:
    job = done_job()
    done = job.run_here("--set", "measure={batches: [2], rounds: 6, processes: 2, energy: off}")
    assert done.returncode == 0, done.stderr
    assert "latency: 6 interleaved rounds of all variants in 2 fresh processes per runtime" in done.stderr
    rows = {
        (variant["id"], row["runtime"]): LatencyRow.model_validate(row)
        for variant in job.results()["variants"]
        for row in variant["inference"]["latency"]
    }
    eager = {(name, "pytorch") for name in ("teacher", "scratch", "distilled", "pruned")}
    assert rows.keys() == eager | {(name, own) for name in ("distilled", "int8") for own in ("onnxruntime", "openvino")}
    for row in rows.values():
        assert [len(rounds) for rounds in row.rounds_ms] == [3, 3] and len(row.process_p50_ms) == 2
        assert row.timings is not None and row.timings >= 6 and row.other_cores is not None
    reference, own = rows["teacher", "pytorch"], rows["pruned", "pytorch"]
    ratio, low, high = latency_ratio(reference, own)
    assert own.ratio_to_reference == pytest.approx(ratio) and own.ratio_ci95 == pytest.approx((low, high))
    assert ratio == pytest.approx(reference.p50_ms / own.p50_ms)
