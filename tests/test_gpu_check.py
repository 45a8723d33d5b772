"""`scripts/gpu_check`, tried on the CPU with tiny networks: its parts run, and a part that fails costs no other."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from deployment.tiny_classifier import network

import compress

SCRIPTS = Path(compress.__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The modules of the script, and what it defines."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import _gpu_bundle
        import _gpu_latency
        import _gpu_parts

        own = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "gpu_check")))
        yield SimpleNamespace(bundle=_gpu_bundle, latency=_gpu_latency, parts=_gpu_parts, own=own)
    finally:
        sys.path.remove(str(SCRIPTS))


def part_of(scripts: SimpleNamespace, name: str, work: Path) -> dict[str, Any]:
    return scripts.parts.run_part(name, scripts.parts.Setting("cpu", True, work))  # type: ignore[no-any-return]


def part(scripts: SimpleNamespace, name: str, work: Path) -> dict[str, Any]:
    result = part_of(scripts, name, work)
    json.dumps(result, allow_nan=False)
    assert result["passed"], result
    return result


def test_a_batch_that_does_not_fit_is_halved(scripts: SimpleNamespace, tmp_path: Path) -> None:
    result = part(scripts, "memory", tmp_path)
    assert result["batches"] == [8, 4] and result["pretended"]


def test_the_machine_is_described(scripts: SimpleNamespace, tmp_path: Path) -> None:
    assert part(scripts, "machine", tmp_path)["packages"]["torch"]


def test_fits_embeddings_and_evaluation_are_timed_beside_plain_loops(scripts: SimpleNamespace, tmp_path: Path) -> None:
    rates = part(scripts, "speed", tmp_path)["images_per_s"]
    assert set(rates) >= {"train_fp32", "train_tf32", "distill_stored", "distill_live", "embed_fp32", "evaluation_fp32"}
    assert all(row["compress"] > 0 for row in rates.values())


def fails(*_: object) -> None:
    raise OSError("CUDA_HOME is not set")


def test_the_students_files_are_written_checked_and_timed(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import _gpu_files

    assert not part_of(scripts, "files", tmp_path)["passed"], "there is no student yet"
    monkeypatch.setattr(_gpu_files, "made_networks", lambda _: {"distilled": (network(), 16)})
    result = part(scripts, "files", tmp_path)
    assert [(row["runtime"], row["precision"]) for row in result["rows"]] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
    ]
    for row in result["rows"]:
        assert row["max_abs_diff"] < 0.01 and row["batch1_ms"] > 0 and row["batch32_ms"] > 0 and row["bytes"] > 1000
    monkeypatch.setattr(_gpu_files, "missing", lambda name: ["NVIDIA GPU"])
    found = scripts.parts.run_part("files", scripts.parts.Setting("cuda", False, tmp_path))
    assert not found["passed"] and set(found["absent"]) == set(_gpu_files.RUNTIMES) and not found["rows"]
    monkeypatch.setattr(_gpu_files, "missing", lambda name: [])
    monkeypatch.setattr(_gpu_files, "export_files", fails)
    found = scripts.parts.run_part("files", scripts.parts.Setting("cpu", True, tmp_path))
    errors = [row["error"] for row in found["rows"]]
    assert errors == ["OSError: CUDA_HOME is not set"] * 2, "each has its turn"


def rates(scripts: SimpleNamespace, ms: Callable[[int], float], most: int = 64, room: int = 1000) -> dict[int, float]:
    """Throughput of something that takes `ms(batch)`, on a device with room for so many images."""

    def make(batch: int) -> Callable[[], object]:
        if batch > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return lambda: batch

    def timer(run: Callable[[], Any], repetitions: int) -> list[float]:
        return [ms(run())] * repetitions

    return scripts.latency.throughput_by_batch(make, timer, most)  # type: ignore[no-any-return]


def test_batches_are_doubled_until_they_bring_no_more(scripts: SimpleNamespace) -> None:
    assert rates(scripts, lambda batch: max(8, batch)) == {1: 125, 2: 250, 4: 500, 8: 1000, 16: 1000}
    assert list(rates(scripts, lambda batch: 1.0)) == [1, 2, 4, 8, 16, 32, 64]
    assert list(rates(scripts, lambda batch: 1.0, room=5)) == [1, 2, 4]
    with pytest.raises(torch.OutOfMemoryError):
        rates(scripts, lambda batch: 1.0, room=0)


def test_the_bundle_has_what_the_gpu_machine_lacks(scripts: SimpleNamespace) -> None:
    lacking = scripts.bundle.lacking()
    assert {"pydantic", "pydantic-core", "torchao", "torch-pruning", "open-clip-torch", "nvidia-ml-py"} <= lacking
    assert not lacking & {"torch", "numpy", "timm", "lightning", "onnxruntime", "triton", "pillow"}


def test_the_recipe_for_the_gpu_needs_neither_openvino_nor_nncf(scripts: SimpleNamespace) -> None:
    from compress.recipe.load import parse_recipe

    made = scripts.parts.gpu_recipe()
    recipe = parse_recipe(json.dumps({**made, "trainer": {**made["trainer"], "accelerator": "cuda"}}))
    assert {"teacher", "distilled", "pruned", "int8"} <= {stage.id for stage in recipe.stages}
    assert not {"openvino", "nncf"} & set(json.dumps(made["stages"]).replace('"', " ").split())


def arguments(work: Path, **changes: Any) -> Namespace:
    settings = {
        "device": "cpu",
        "tiny": True,
        "work": work,
        "minutes": 1,
        "only": ["machine"],
        "out": work / "out.json",
    }
    return Namespace(**{**settings, **changes})


def test_a_part_that_hangs_or_fails_is_an_error_in_the_result(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = arguments(tmp_path, only=["machine", "tests"])

    def run(command: list[str], _: object, limit: float, log: Path) -> int:
        if command[command.index("--part") + 1] == "tests":
            so_far = json.loads(args.out.read_text())
            assert set(so_far["parts"]) == {"machine"} and not so_far["complete"]
            raise subprocess.TimeoutExpired(command, limit)
        log.write_text("Traceback\nRuntimeError: no kernel image\n")
        return 1

    monkeypatch.setitem(scripts.own.run_one.__globals__, "run_group", run)
    results = scripts.own.run_parts(args, tmp_path)
    assert results == json.loads(args.out.read_text()) and results["complete"]
    assert results["parts"]["machine"]["error"] == "RuntimeError: no kernel image"
    assert results["parts"]["tests"]["error"].startswith("stopped after")
    assert not any(found["passed"] for found in results["parts"].values())
    late = scripts.own.run_parts(arguments(tmp_path, minutes=0), tmp_path)
    assert late["parts"]["machine"]["error"] == "skipped: 0 minutes were over"


@pytest.mark.parametrize("hangs", [True, False])
def test_nothing_that_a_part_started_outlives_it(scripts: SimpleNamespace, tmp_path: Path, hangs: bool) -> None:
    """A part that hangs, or dies before its child: the child, which holds its output open, ends too, at once."""
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    wait = "child.wait()" if hangs else "time.sleep(1); os._exit(3)"
    part = f"import os, subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', {child!r}]); {wait}"
    log, clock = tmp_path / "log", time.monotonic()
    command = [sys.executable, "-c", part]
    if hangs:
        with pytest.raises(subprocess.TimeoutExpired):
            scripts.own.run_group(command, dict(os.environ), 1.5, log)
    else:
        assert scripts.own.run_group(command, dict(os.environ), 30, log) == 3
    assert time.monotonic() - clock < 20
    pid = int(log.read_text())
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} still runs")


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that ended may wait for its parent to notice."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


def test_a_folder_that_cannot_be_written_is_refused_before_any_part(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    command = [sys.executable, str(SCRIPTS / "gpu_check"), "--work", str(tmp_path / "work")]
    done = subprocess.run([*command, "--out", str(tmp_path / "file" / "out.json")], capture_output=True, text=True)
    assert done.returncode == 2 and "choose a file in a folder that can be written" in done.stderr
    assert not list((tmp_path / "work").iterdir())


def test_stages_of_another_run_or_device_do_not_pass(scripts: SimpleNamespace, tmp_path: Path) -> None:
    recipe, setting = {"stages": [{"id": "a"}, {"id": "b"}]}, scripts.parts.Setting("cpu", True, tmp_path)
    assert scripts.parts.elsewhere(recipe, ("a", "b"), "CPU", setting) is None
    assert scripts.parts.elsewhere(recipe, ("b",), "CPU", setting) == "not made in this run: a"
    assert scripts.parts.elsewhere(recipe, ("a", "b"), "cuda:0, T4", setting) == "made on cuda:0, T4, not on CPU"
    assert scripts.parts.elsewhere(recipe, ("a", "b"), None, setting) == "made on None, not on CPU"


@pytest.mark.slow
def test_the_whole_check_runs_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = [sys.executable, str(SCRIPTS / "gpu_check"), "--device", "cpu", "--tiny", "--minutes", "30"]
    done = subprocess.run(
        [*command, "--out", str(out), "--work", str(tmp_path / "work")], capture_output=True, text=True
    )
    assert out.is_file(), done.stderr
    results = json.loads(out.read_text())
    parts = results["parts"]
    assert results["complete"]
    assert {name: result["passed"] for name, result in parts.items()} == dict.fromkeys(parts, True), parts
    assert {row["variant"] for row in parts["latency"]["rows"]} == {"teacher", "distilled", "pruned"}
    assert {row["precision"] for row in parts["files"]["rows"]} == {"fp32", "fp16"}


@pytest.mark.slow
def test_a_second_quickstart_makes_every_stage_again(scripts: SimpleNamespace, tmp_path: Path) -> None:
    """What the first call stored, on whatever device, is not taken for work of the second."""
    first, second = (part(scripts, "quickstart", tmp_path) for _ in range(2))
    assert set(first["stage_seconds"]) == set(second["stage_seconds"]) == {"teacher", "distilled", "pruned"}
