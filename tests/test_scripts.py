"""Scripts that compare and benchmark: settings that they change, and folders that they refuse."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

import compress
from compress.recipe.load import load_recipe

SCRIPTS = Path(compress.__file__).parents[1] / "scripts"


def script(name: str) -> dict[str, Any]:
    return runpy.run_path(str(SCRIPTS / f"{name}.py"))


@pytest.mark.parametrize(("epochs", "share", "left"), [(0, 1.0, 0), (0, 0.1, 0), (4, 0.1, 1), (4, 0.5, 2)])
def test_a_share_of_no_epochs_is_none(epochs: int, share: float, left: int) -> None:
    stages = load_recipe("quickstart", [f"stages.distilled.epochs={epochs}"]).stages
    distilled = next(stage for stage in stages if stage.id == "distilled")
    assert list(script("compare_seeds")["of_seed"](distilled, 3, share)) == [
        "stages.distilled.seed=3",
        f"stages.distilled.epochs={left}",
    ]


def test_seeds_leave_teachers_as_they_are() -> None:
    students = script("compare_seeds")["students"]
    assert [stage.id for stage in students(load_recipe("mlperf_tiny/85_imagenet"))][:2] == ["distilled", "dense-int8"]
    assert "scratch" in [stage.id for stage in students(load_recipe("quickstart_ablation"))]


def test_a_store_that_is_filled_is_not_filled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "store").mkdir()
    monkeypatch.setattr("sys.argv", ["bench_store.py", "--folder", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        script("bench_store")["main"]()
    assert ended.value.code == 2 and "has a store already" in capsys.readouterr().err


@pytest.mark.parametrize("name", [path.name for path in SCRIPTS.iterdir() if path.is_file()])
def test_networks_are_compiled_for_the_batch_that_is_timed(name: str) -> None:
    """The second batch size would be compiled for any, which is slower."""
    text = (SCRIPTS / name).read_text()
    calls = [line for line in text.splitlines() if "torch.compile(" in line]
    assert all("dynamic=False" in line for line in calls)
