"""Finding runtimes, and refusing classes that do not declare what the others rely on."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from support import environment

import compress.deployment
from compress.deployment.coverage import Coverage
from compress.deployment.runtime import ExportSource, Runner, Runtime, check_declared
from compress.deployment.runtimes import find_runtime
from compress.recipe import runtime_name
from compress.registry import RUNTIMES
from compress.utils.errors import UsageError


class Complete(Runtime):
    """Declares all that it must."""

    format = "own"
    files = ("model.own",)
    reads = (".own",)
    engine = "numpy"
    packages = ("numpy",)
    install = "pip install numpy"

    def build(self, source: ExportSource, folder: Path) -> Path:
        return folder / self.files[0]

    def load(self, path: Path, threads: int | None = None) -> Runner:
        return lambda images: images

    def coverage(self, path: Path) -> Coverage:
        return Coverage(0, 0)


def test_recipes_can_name_every_runtime() -> None:
    assert TypeAdapter(runtime_name.Runtime).json_schema()["enum"] == list(RUNTIMES)


def test_an_unknown_runtime_is_one_line_with_all_names() -> None:
    with pytest.raises(UsageError, match=r"unknown runtime 'tensorflow'; .*choose one of onnxruntime, openvino, ncnn"):
        find_runtime("tensorflow")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizers": False}, "`quantizers` must be a tuple of strings, not False"),
        ({"quantizers": ("torchoa",)}, "`quantizers` has 'torchoa'; choose one of torchao, nncf, onnxruntime"),
        ({"reads": ".own"}, "`reads` must be a tuple of strings, not '.own'"),
        ({"reads": ("own",)}, "`reads` has 'own'; endings start with a dot"),
        ({"files": ()}, "`files` is empty"),
        ({"portable": "yes"}, "`portable` must be True or False, not 'yes'"),
        ({"target": 8}, "`target` must be a string or None, not 8"),
        ({"install": "", "engine": None}, "`engine` must be a non-empty string, not None; `install` must be a non-em"),
    ],
)
def test_a_wrong_ability_is_one_line(changes: dict[str, object], message: str) -> None:
    check_declared("mine", Complete)
    with pytest.raises(UsageError) as caught:
        check_declared("mine", type("Wrong", (Complete,), changes))
    assert f"runtime 'mine', class Wrong: {message}" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_abilities_are_one_line() -> None:
    message = "`format` is missing, a non-empty string; `files` is missing, a tuple of strings; `reads` is missing"
    with pytest.raises(UsageError, match=f"class Bare: `build` is not implemented; .*{message}"):
        check_declared("mine", type("Bare", (Runtime,), {}))
    with pytest.raises(UsageError, match=r"must be a subclass of compress\.deployment\.runtime\.Runtime"):
        check_declared("mine", "my_module")


@pytest.mark.parametrize(
    ("name", "loaded"), [("executorch", "executorch.runtime"), ("litert", "ai_edge_litert.interpreter")]
)
def test_what_loads_files_is_imported_before_loading_is_timed(name: str, loaded: str, tmp_path: Path) -> None:
    """`bench` times loads after `require_engine`; the packages of these engines import nothing themselves."""
    package, _, module = loaded.partition(".")
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    (tmp_path / package / f"{module}.py").write_text("class Runtime: ...\n")
    code = f"import sys\nfrom compress.deployment.runtimes import require_engine\nrequire_engine({name!r})\n"
    code += f"print({loaded!r} in sys.modules)"
    variables = {**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=variables)
    assert done.stdout == "True\n", done.stderr


def test_importing_every_module_of_the_package_loads_nothing_heavy() -> None:
    modules = [f"compress.deployment.{module.name}" for module in pkgutil.iter_modules(compress.deployment.__path__)]
    code = f"import sys\nfor name in {modules}: __import__(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    heavy = {"torch", "scipy", "pydantic", "yaml", "onnx", "onnxruntime", "openvino", "ncnn", "matplotlib"}
    assert len(modules) > 20 and not heavy & set(done.stdout.split())
