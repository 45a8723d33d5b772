"""The wheel contains recipes, configs, templates, the sample and the teacher."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import environment

import compress

CHECKOUT = Path(compress.__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True, cwd=CHECKOUT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """Unpack the wheel into a folder, as pip does."""
    site = wheel.parent / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def in_wheel(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "compress", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=installed, env=variables)


def test_the_wheel_is_imported_and_not_the_checkout(installed: Path) -> None:
    code = "import compress; print(compress.__file__)"
    variables = {**environment(), "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=installed, env=variables)
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_wheel_finds_shipped_recipes_and_configs(installed: Path) -> None:
    done = in_wheel(installed, "validate", "quickstart", "openclip_resnet18_stl10")
    assert done.returncode == 0, done.stderr
    assert "embedded" in in_wheel(installed, "list", "teachers").stdout


def test_wheel_contains_every_file_of_the_package(installed: Path) -> None:
    for path in (CHECKOUT / "compress").rglob("*"):
        if path.is_file() and path.suffix not in (".pyc",) and not path.name.startswith("."):
            assert (installed / path.relative_to(CHECKOUT)).is_file(), path


def test_embedded_assets_stay_below_their_size_limits() -> None:
    assets = CHECKOUT / "compress" / "assets"
    sizes = {f.name: sum(p.stat().st_size for p in f.rglob("*") if p.is_file()) for f in assets.iterdir()}
    assert sizes["cifar10-sample"] <= 19e6 and sizes["teacher"] <= 16e6
    assert sizes["resnet18"] <= 12e6 and sizes["cifar10-resnet18"] <= 12e6


@pytest.mark.slow
def test_wheel_runs_with_core_dependencies_only(wheel: Path, tmp_path: Path) -> None:
    """A recipe that needs the `deploy` extra is refused by name; another one runs."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ["-c", str(CHECKOUT / "constraints.txt")]
    subprocess.run([python, "-m", "pip", "install", "-qq", wheel, *constraints], check=True)
    recipe = tmp_path / "tiny.yaml"
    stage = "{id: baseline, kind: train, student: test_resnet, epochs: 1}"
    recipe.write_text(f"data: cifar10-sample\nstages: [{stage}]\nmeasure: {{rounds: 5, processes: 1}}\n")

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "venv" / "bin" / "compress-model"), *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment())

    assert call("validate", "quickstart").returncode == 0
    refused = call("run", "quickstart")
    assert refused.returncode == 1 and "pip install 'compress-model[deploy]'" in refused.stderr
    done = call("run", str(recipe))
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("runs/tiny/*/report.html"))
