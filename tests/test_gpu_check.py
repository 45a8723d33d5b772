"""`scripts/gpu_check`, tried on the CPU with tiny networks: its parts run, and a part that fails costs no other."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import compress

SCRIPTS = Path(compress.__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def scripts() -> Iterator[SimpleNamespace]:
    """The modules of the script, and what it defines."""
    sys.path.insert(0, str(SCRIPTS))
    try:
        import _gpu_bundle
        import _gpu_parts

        own = SimpleNamespace(**runpy.run_path(str(SCRIPTS / "gpu_check")))
        yield SimpleNamespace(bundle=_gpu_bundle, parts=_gpu_parts, own=own)
    finally:
        sys.path.remove(str(SCRIPTS))


def part(scripts: SimpleNamespace, name: str, work: Path) -> dict[str, Any]:
    result = scripts.parts.run_part(name, scripts.parts.Setting("cpu", True, work))
    json.dumps(result, allow_nan=False)
    assert result["passed"], result
    return result  # type: ignore[no-any-return]


def test_a_batch_that_does_not_fit_is_halved(scripts: SimpleNamespace, tmp_path: Path) -> None:
    result = part(scripts, "memory", tmp_path)
    assert result["batches"] == [8, 4] and result["pretended"]


def test_the_machine_is_described(scripts: SimpleNamespace, tmp_path: Path) -> None:
    assert part(scripts, "machine", tmp_path)["packages"]["torch"]


def test_fits_embeddings_and_evaluation_are_timed_beside_plain_loops(scripts: SimpleNamespace, tmp_path: Path) -> None:
    rates = part(scripts, "speed", tmp_path)["images_per_s"]
    assert set(rates) >= {"train_fp32", "train_tf32", "distill_stored", "distill_live", "embed_fp32", "evaluation_fp32"}
    assert all(row["compress"] > 0 for row in rates.values())


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
    return Namespace(**{"device": "cpu", "tiny": True, "work": work, "minutes": 1, "only": ["machine"], **changes})


def test_a_part_that_hangs_or_fails_is_an_error_in_the_result(
    scripts: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if command[command.index("--part") + 1] == "tests":
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, 1, "", "Traceback\nRuntimeError: no kernel image")

    monkeypatch.setattr(subprocess, "run", run)
    results = scripts.own.run_parts(arguments(tmp_path, only=["machine", "tests"]), tmp_path)
    assert results["parts"]["machine"]["error"] == "RuntimeError: no kernel image"
    assert results["parts"]["tests"]["error"].startswith("stopped after")
    assert not any(found["passed"] for found in results["parts"].values())
    late = scripts.own.run_parts(arguments(tmp_path, minutes=0), tmp_path)
    assert late["parts"]["machine"]["error"] == "skipped: 0 minutes were over"


@pytest.mark.slow
def test_the_whole_check_runs_without_a_gpu(tmp_path: Path) -> None:
    out = tmp_path / "check.json"
    command = [sys.executable, str(SCRIPTS / "gpu_check"), "--device", "cpu", "--tiny", "--minutes", "30"]
    done = subprocess.run(
        [*command, "--out", str(out), "--work", str(tmp_path / "work")], capture_output=True, text=True
    )
    assert out.is_file(), done.stderr
    parts = json.loads(out.read_text())["parts"]
    assert {name: result["passed"] for name, result in parts.items()} == dict.fromkeys(parts, True), parts
    assert {row["variant"] for row in parts["latency"]["rows"]} == {"teacher", "distilled", "pruned"}
