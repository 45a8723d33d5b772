"""The wheel has all that a checkout has: recipes, configs, templates, the sample and the teacher."""

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
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, as pip lays it down."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", build], check=True, capture_output=True, cwd=CHECKOUT)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder / "site")
    return folder / "site"


def in_wheel(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {**environment(), "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "compress", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=installed, env=variables)


def test_it_is_the_wheel_that_runs(installed: Path) -> None:
    code = "import compress; print(compress.__file__)"
    variables = {**environment(), "PYTHONPATH": str(installed), "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=installed, env=variables)
    assert Path(done.stdout.strip()).is_relative_to(installed)


def test_recipes_and_configs_are_found(installed: Path) -> None:
    done = in_wheel(installed, "validate", "quickstart", "openclip_resnet18_cifar10")
    assert done.returncode == 0, done.stderr
    assert "embedded" in in_wheel(installed, "list", "teachers").stdout


def test_assets_and_templates_are_inside(installed: Path) -> None:
    for path in (CHECKOUT / "compress").rglob("*"):
        if path.is_file() and path.suffix not in (".pyc",) and not path.name.startswith("."):
            assert (installed / path.relative_to(CHECKOUT)).is_file(), path


def test_the_embedded_assets_are_small_enough() -> None:
    assets = CHECKOUT / "compress" / "assets"
    sizes = {f.name: sum(p.stat().st_size for p in f.rglob("*") if p.is_file()) for f in assets.iterdir()}
    assert sizes["cifar10-sample"] <= 19e6 and sizes["teacher"] <= 16e6
