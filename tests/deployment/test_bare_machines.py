"""Machines that only run artifacts: few packages, a user without an account, a home that is absent or read-only."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from deployment.bare_python import link_packages
from deployment.tiny_classifier import PREPROCESS, network
from PIL import Image
from support import environment

from compress.deployment.export import export
from compress.deployment.litert import VARIABLE, LiteRt
from compress.registry import RUNTIMES
from compress.utils.errors import UsageError
from compress.utils.resources import expand

CHECKOUT = Path(__file__).parents[2]
NEEDED = ("onnxruntime", "numpy", "pillow", "typer")

NO_ACCOUNT = """\
import os, pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(network(), tmp_path_factory.mktemp("artifact"), ["onnxruntime"], PREPROCESS)["onnxruntime"].parent  # type: ignore[arg-type]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A class folder with a photo, in a folder with a space and letters that are not ASCII."""
    (tmp_path / "my photos é" / "cat").mkdir(parents=True)
    Image.new("RGB", (20, 30), "red").save(tmp_path / "my photos é" / "cat" / "a b.png")
    return tmp_path / "my photos é" / "cat" / "a b.png"


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with links to the packages that running artifacts takes, and no others."""
    site = tmp_path_factory.mktemp("site")
    link_packages(NEEDED, site)
    return site


def call(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{bare}"}
    command = [os.path.realpath(sys.executable), "-S", "-m", "compress", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=variables)


@pytest.mark.parametrize("verb", ["predict", "evaluate", "bench"])
def test_artifacts_run_with_few_packages(bare: Path, artifact: Path, photo: Path, verb: str) -> None:
    rest = {
        "predict": [str(photo)],
        "evaluate": [str(photo.parents[1])],
        "bench": ["--rounds", "5", "--processes", "1"],
    }
    done = call(bare, verb, str(artifact), *rest[verb], "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    "arguments",
    [
        ("gap",),
        ("compare", "a", "b"),
        ("report", "a"),
        ("validate", "quickstart"),
        ("plan", "quickstart"),
        ("run", "quickstart"),
        ("init", "photos"),
        ("schema",),
        ("list", "students"),
        ("store", "list"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_other_verbs_say_that_they_need_the_whole_package(bare: Path, arguments: tuple[str, ...]) -> None:
    done = call(bare, *arguments)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and len(done.stderr) <= 200
    assert done.stderr.startswith("error: this verb needs the whole package, and ")
    assert "(bench, evaluate and predict need only a runtime, numpy, pillow and typer)" in done.stderr


def test_doctor_says_how_to_add_what_is_missing(bare: Path) -> None:
    done = call(bare, "doctor", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert not rows["torch"]["present"] and rows["torch"]["detail"] == "pip install torch"
    assert rows["gpu"]["detail"] == "not known without torch" and "energy counter" in rows


@pytest.mark.slow
@pytest.mark.parametrize("home", ["absent", "read-only"])
def test_no_verb_on_artifacts_needs_a_home(artifact: Path, photo: Path, tmp_path: Path, home: str) -> None:
    """A numeric user without an account, as container engines start them."""
    (tmp_path / "sitecustomize.py").write_text(NO_ACCOUNT)
    (tmp_path / "home").mkdir(mode=0o555)
    variables = {key: value for key, value in environment().items() if key not in ("USER", "LOGNAME", "HOME")}
    variables["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{variables.get('PYTHONPATH', '')}"
    if home == "read-only":
        variables["HOME"] = str(tmp_path / "home")
    for arguments in (
        ["predict", str(artifact), str(photo)],
        ["evaluate", str(artifact), str(photo.parents[1])],
        ["bench", str(artifact), "--rounds", "5", "--processes", "2"],
        ["list", "runtimes"],
    ):
        command = [sys.executable, "-m", "compress", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=tmp_path)
        assert done.returncode == 0 and not done.stderr, done.stderr
    assert not list((tmp_path / "home").iterdir())


def test_one_runtime_is_imported_for_one_artifact(artifact: Path) -> None:
    modules = sorted({entry.where.partition(":")[0] for entry in RUNTIMES.values() if isinstance(entry.where, str)})
    code = (
        "import sys, compress\n"
        f"compress.load_artifact({str(artifact)!r})\n"
        f"modules = {modules!r}\n"
        "print([name for name in modules if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment())
    assert done.stdout.strip() == "['compress.deployment.onnx_runtime']", done.stderr


def test_the_converter_of_litert_is_where_the_variable_or_the_cache_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert LiteRt("litert").programs == (str(tmp_path / "bin" / "python"),)
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert LiteRt("litert").programs == (str(tmp_path / "compress-model" / "litert" / "bin" / "python"),)
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert LiteRt("litert").programs == (f"${VARIABLE}/bin/python",)


def test_a_tilde_without_a_home_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expand("~/photos") == str(tmp_path / "photos") and expand("a~b") == "a~b"
    with pytest.raises(
        UsageError, match=r"^~nobody-at-all/x: no home folder is known for ~; set HOME or write the whole"
    ):
        expand("~nobody-at-all/x")


def test_the_list_of_dependencies_is_that_of_the_package() -> None:
    """What `report_error` counts as missing is what can be missing: every package is installed here."""
    from compress.cli.errors import WHOLE_PACKAGE

    assert all(importlib.util.find_spec(name) for name in WHOLE_PACKAGE)
    declared = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split("[<>=]", each)[0].replace("-", "_") for each in declared}
    of_modules = packages_distributions()
    listed = {name.lower().replace("-", "_") for module in WHOLE_PACKAGE for name in of_modules.get(module, ())}
    assert names - listed == {"typer"}, "without which there is no command line to report anything"
