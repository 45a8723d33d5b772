"""Artifacts for other machines and target devices, in a real run; unknown figures stay unknown."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Job, photographs

from compress.utils.system import processor

RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: dense, kind: train, student: test_resnet, epochs: 2, batch: 16, lr: 0.05}}
  - {{id: int8, kind: quantize, from: dense, calibration_images: 16, target: portable, reduce_range: false}}
  - {{id: files, kind: export, from: [int8], runtimes: [tensorrt, onnxruntime]}}
  - {{id: engine, kind: export, from: [dense], runtimes: [tensorrt]}}
measure: {{batches: [1], rounds: 30, processes: 1, energy: off, threads: 1}}
worth:
  tolerance: 0.99
  deployments:
    - {{use: jetson-orin-nano, budgets: {{size_mb: 20}}}}
    - name: here
      processor: "{processor}"
      runtime: onnxruntime
      threads: 1
      budgets: {{latency_ms: 1.0e+6, memory_mb: 1.0e+6, size_mb: 20}}
"""


@pytest.mark.slow
def test_run_with_artifacts_for_other_machines_and_deployments(tmp_path: Path) -> None:
    job = Job(tmp_path)
    for split, count in (("train", 12), ("test", 24)):
        photographs(tmp_path / "images" / split, count, seed=count)
    job.recipe.write_text(RECIPE.format(root=tmp_path, processor=processor()))
    done = job.run_here()
    assert done.returncode == 0, done.stderr
    assert "tensorrt: written, format checked, not run here" in done.stderr
    results, (run,) = job.results(), (tmp_path / "runs" / "tiny").iterdir()
    dense, int8 = results["variants"]
    not_run, evaluated = int8["artifacts"]
    assert not_run["not_run"] and {not_run[key] for key in ("top1", "top1_agreement", "integer_convs")} == {None}
    assert not_run["bytes"] > 0 and (run / not_run["path"]).with_name("trtexec.txt").is_file()
    assert evaluated["top1_agreement"] >= 0.9 and evaluated["integer_convs"] > 0, (
        "the symmetric network runs in integer arithmetic here too"
    )
    assert {row["runtime"] for row in int8["inference"]["latency"]} == {"onnxruntime"}
    basis = int8["inference"]["peak_memory_basis"]
    assert basis == {"runtime": "onnxruntime", "batch": 1, "threads": results["environment"]["threads"]}
    assert dense["inference"]["peak_memory_bytes"] is None, "its only artifact runs on another machine"

    jetson, here = results["deployments"]
    assert not jetson["here"] and jetson["best"] is None and jetson["open"] == ["int8", "dense"]
    known = {b["what"]: b["verdict"] for b in jetson["fits"][1]["budgets"]}
    elsewhere = dict.fromkeys(("latency_ms", "memory_mb", "energy_j"), "not measured")
    assert known == {**elsewhere, "size_mb": "met"}
    assert here["here"] and here["best"] == "int8", "dense has no ONNX Runtime artifact"
    assert [fit["meets"] for fit in here["fits"]] == [None, True]
    for page in ("report.html", "report.md"):
        text = (run / page).read_text()
        assert "Which variant fits which device" in text and "written, format checked, not run here" in text
