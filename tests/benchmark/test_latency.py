"""Latency of a run in fresh processes: every variant in every runtime, eager PyTorch included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from results_factory import latency_row
from support import Job

from compress.benchmark import latency
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


def test_modes_of_a_runtime_are_one_line_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(latency, "say", lines.append)
    rows = [
        (name, latency_row("onnxruntime", batch, split=split, process_p50_ms=medians))
        for name, batch, split, medians in (
            ("dense", 1, False, (4.0, 9.0, 4.0)),
            ("int8", 1, True, (1.0, 1.5, 1.0)),
            ("int8", 16, True, (8.57, 29.3, 16.0)),
            ("pruned", 16, True, (4.0, 5.0, 4.0)),
        )
    ]
    latency._say_modes("onnxruntime", rows)
    latency._say_modes("openvino", rows[:1])
    expected = "int8 takes 8.57, 29.3, 16 ms in fresh processes at batch 16"
    assert lines == [f"  several modes of int8, pruned in onnxruntime: {expected}"]
