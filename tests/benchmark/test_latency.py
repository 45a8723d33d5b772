"""Latency of a run in fresh processes: every variant in every runtime, eager PyTorch included."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from results_factory import latency_row
from support import Job

from compress.benchmark import latency
from compress.efficiency.timing import latency_ratio
from compress.results import LatencyRow
from compress.utils.precision import HALF


@pytest.mark.slow
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


def precisions_of(*keys: str) -> SimpleNamespace:
    """Targets of a variant `base`, and of another one, with files in these precisions."""
    known = {"base": "fp32", "base fp16": "fp16", "base bf16": "bf16", "other": "fp32"}
    return SimpleNamespace(variant={key: key.split()[0] for key in keys}, precision={key: known[key] for key in keys})


@pytest.mark.parametrize(
    ("keys", "base"),
    [
        (("other", "base fp16", "base"), "base"),
        (("base", "base fp16"), "base"),
        (("base bf16", "base fp16", "other"), "base fp16"),
        (("other",), None),
    ],
)
def test_ratios_are_to_the_usual_file_of_the_reference_in_any_order(keys: tuple[str, ...], base: str | None) -> None:
    timings = {key: [[[float(number)]]] for number, key in enumerate(keys)}
    expected = None if base is None else timings[base]
    assert latency._base(timings, precisions_of(*keys), "base") is expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "measured"),
    [
        ([[("ncnn", "fp16"), ("openvino", "fp32")], [("onnxruntime", "fp16")]], ("openvino", "fp32")),
        ([[("onnxruntime", "fp32")], [("onnxruntime", "fp16")]], ("onnxruntime", "fp32")),
        ([[("openvino", "bf16")], [("onnxruntime", "fp16")]], ("onnxruntime", "fp16")),
        ([[("ncnn", "int8")]], ("ncnn", "int8")),
        ([[]], None),
    ],
)
def test_memory_is_that_of_the_usual_file_in_any_order(
    files: list[list[tuple[str, str]]], measured: tuple[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    exports = [SimpleNamespace(id=number, parent="base") for number in range(len(files))]
    plan = SimpleNamespace(variants=[SimpleNamespace(id="base")], exports=exports)

    def rows(number: int) -> list[tuple[SimpleNamespace, tuple[str, str]]]:
        return [(SimpleNamespace(runtime=name, precision=own), (name, own)) for name, own in files[number]]

    sizes = {file: 1000 + number for number, file in enumerate(file for each in files for file in each)}
    monkeypatch.setattr(latency, "runnable_artifacts", rows)
    monkeypatch.setattr(latency, "peak_memory", lambda path, runtime, batch, threads: sizes[path] + threads)
    memory, basis = latency._memory(SimpleNamespace(plan=plan, folder=lambda number: number), 4, 2)  # type: ignore[arg-type]
    assert memory == {"base": sizes[measured] + 2 if measured else None}
    stated = {name: each.model_dump(mode="json") for name, each in basis.items()}
    if measured is None:
        assert stated == {}
    else:
        half = {"precision": measured[1]} if measured[1] in HALF else {}
        assert stated == {"base": {"runtime": measured[0], "batch": 4, "threads": 2, **half}}
