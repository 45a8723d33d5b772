"""Optional packages that fail to import break nothing that does not need them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recipe.recipe_texts import GOOD
from support import Job, environment

from compress.deployment import runtimes
from compress.deployment.runtimes import find_runtime, require_whole
from compress.pipeline.preflight import check_requirements
from compress.recipe.load import parse_recipe
from compress.registry import RUNTIMES
from compress.utils.errors import CompressError

ERRORS = (
    "ImportError('cannot import name x')",
    "OSError('libx.so.1: cannot open shared object')",
    "RuntimeError('no')",
)
OPTIONAL = ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "ncnn", "pnnx", "executorch", "zeus", "tensorrt")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """Make a folder for PYTHONPATH in which each optional package raises on import."""
    for number, package in enumerate(OPTIONAL):
        (tmp_path / "broken" / package).mkdir(parents=True)
        (tmp_path / "broken" / package / "__init__.py").write_text(f"raise {ERRORS[number % 3]}\n")
    return tmp_path / "broken"


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = environment()
    variables["PYTHONPATH"] = f"{folder}:{variables.get('PYTHONPATH', '')}"
    command = [sys.executable, "-m", "compress", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables)


def test_doctor_marks_broken_packages(broken: Path) -> None:
    done = call(broken, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for name in RUNTIMES:
        if set(find_runtime(name).packages) & set(OPTIONAL):
            row = rows[f"runtime {name}"]
            assert row["broken"] and not row["present"], row
            assert any(f"{p} is broken: " in row["detail"] for p in find_runtime(name).packages)
    assert not rows["torch"]["broken"] and rows["torch"]["present"]


def test_list_works_with_broken_packages(broken: Path) -> None:
    done = call(broken, "list", "runtimes")
    assert done.returncode == 0 and "openvino" in done.stdout, done.stderr


def test_artifact_of_a_broken_runtime_is_refused(broken: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").touch()
    done = call(broken, "predict", str(tmp_path), str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == (
        "error: the runtime onnxruntime cannot be used, onnxruntime is broken: RuntimeError: no; install it again\n"
    )


def test_stage_that_needs_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torn.py").write_text("raise OSError('libx.so.1: cannot open shared object')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(find_runtime("onnxruntime"), "packages", ("torn",))
    recipe = parse_recipe(GOOD)
    with pytest.raises(
        CompressError, match=r"stage files: .* onnxruntime cannot be used, torn is broken: OSError: libx"
    ):
        check_requirements(recipe, recipe.stages, require_whole)


@pytest.mark.slow
def test_run_without_the_broken_packages_succeeds_and_with_them_stops_before_training(
    broken: Path, make_job: Callable[[], Job]
) -> None:
    job = make_job()
    refused = call(broken, *job.command()[3:])
    assert refused.returncode == 1 and "training" not in refused.stderr
    assert refused.stderr.startswith(
        "error: stage files: the runtime onnxruntime cannot be used, onnx is broken: Import"
    )
    job.write(deployed=False)
    done = call(broken, *job.command()[3:])
    assert done.returncode == 0, done.stderr


def test_signals_and_memory_errors_do_not_mark_a_package_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(name: str) -> None:  # as pybind11's modules end when a signal comes while they start
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as signal:
            raise ImportError("initialization failed") from signal

    def short(name: str) -> None:
        raise ImportError("/x/it.so: failed to map segment from shared object")

    def absent(name: str) -> None:
        raise ImportError("initialization failed")

    runtime = find_runtime("onnxruntime")
    monkeypatch.setattr(runtimes.importlib, "import_module", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runtimes.broken(runtime, ["it"])
    monkeypatch.setattr(runtimes.importlib, "import_module", short)
    with pytest.raises(MemoryError):
        runtimes.broken(runtime, ["it"])
    monkeypatch.setattr(runtimes.importlib, "import_module", absent)
    assert runtimes.broken(runtime, ["it"]) == "it is broken: ImportError: initialization failed"
