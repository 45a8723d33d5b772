"""`init` from end to end: the recipe that it writes is valid and runs as it is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from own_photographs import SIX, make_photographs
from scaffold.folders import folder
from support import environment, typed

from compress.recipe import load_recipe, parse_recipe
from compress.recipe.json_schema import recipe_schema

call = partial(typed, HF_HUB_OFFLINE="1")


def own_photos(root: Path) -> None:
    folder(root / 'my "own" photos', **{"it's a cat": 12, "Äpfel: #1": 9, "鳥": 3})
    (root / 'my "own" photos' / "鳥" / "broken.jpg").write_bytes(b"x")


def test_an_existing_recipe_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("mine")
    folder(tmp_path / "p", cat=3, dog=3)
    done = call("init", "p", cwd=tmp_path)
    assert done.returncode == 2 and "recipe.yaml already exists" in done.stderr and len(done.stderr.splitlines()) == 1
    assert (tmp_path / "recipe.yaml").read_text() == "mine" and not (tmp_path / "recipe.schema.json").exists()


def test_the_next_command_is_quoted_for_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.cli.init.MAX_TIMED", 0)
    done = call("init", folder(tmp_path / "p", cat=3, dog=3), "--output", "my own.yaml", cwd=tmp_path)
    assert "compress-model plan 'my own.yaml'" in done.stdout
    assert done.stdout.endswith("compress-model run 'my own.yaml'\n")


def test_json_has_survey_choices_and_estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own_photos(tmp_path)
    shutil.copy(tmp_path / 'my "own" photos' / "鳥" / "0.png", tmp_path / 'my "own" photos' / "鳥" / "copy.png")
    done = call("init", 'my "own" photos', "--output", "own.yaml", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert set(record) == {"recipe", "seen", "chosen", "checkpoints", "estimate"} and record["recipe"] == "own.yaml"
    assert record["checkpoints"] == [] and record["chosen"]["model"] is None
    recipe = parse_recipe((tmp_path / "own.yaml").read_text())
    assert record["seen"] == {
        "source": "image-folder",
        "path": 'my "own" photos',
        "images": 26,
        "looked_at": 26,
        "classes": {"it's a cat": {"train": 12}, "Äpfel: #1": {"train": 9}, "鳥": {"train": 4}},
        "unlabeled": 0,
        "short_side": {"least": 40, "median": 40, "most": 40},
        "grey": 0,
        "broken": ["鳥/broken.jpg (cannot identify image file it)"],
        "large": 0,
        "left_out": [],
        "notes": [],
        "copies": 1,
        "contradictions": 0,
        "leaks": 0,
        "test_leaks": 0,
        "test_share": 0.2,
    }
    assert (record["chosen"]["resolution"], record["chosen"]["epochs"]) == (32, 60)
    assert record["chosen"]["teacher"].startswith("none, so the recipe trains on your labels alone")
    kinds = {stage.id: stage.kind for stage in recipe.stages}
    rows = {row["unit"].split("/")[0]: row for row in record["estimate"]}
    assert {unit: rows[unit]["kind"] for unit in kinds} == kinds and rows["trained"]["seconds"] > 0
    monkeypatch.setattr("compress.cli.init.MAX_TIMED", 25)
    done = call("init", 'my "own" photos', "--output", "own.yaml", "--json", "--force", cwd=tmp_path)
    assert json.loads(done.stdout) == {**record, "estimate": None}
    again = call("init", 'my "own" photos', "--output", "own.yaml", "--json", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "") and "already exists" in again.stderr


def test_the_recipe_is_valid_and_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the first stage, with a tiny network and one epoch; the rest is as `init` chose it."""
    from compress.pipeline.runner import run

    own_photos(tmp_path)
    done = call("init", 'my "own" photos', "--output", "own.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 classes, 24 train" in done.stdout and "compress-model run own.yaml" in done.stdout
    assert "trained" in done.stdout and "total" in done.stdout
    assert json.loads((tmp_path / "recipe.schema.json").read_text()) == recipe_schema()
    assert call("validate", "own.yaml", cwd=tmp_path).returncode == 0
    monkeypatch.chdir(tmp_path)
    tiny = (
        "stages.trained.student=test_resnet",
        "stages.trained.epochs=1",
        "measure={rounds: 5, processes: 1, energy: off}",
    )
    recipe = load_recipe("own.yaml", tiny)
    done = run(recipe.model_copy(update={"stages": recipe.stages[:1]}))
    results = json.loads((done.folder / "results.json").read_text())
    assert results["data"]["skipped"] == 1 and results["data"]["classes"] == ["it's a cat", "Äpfel: #1", "鳥"]
    assert results["variants"][0]["accuracy"]["n"] == 5  # a fifth of each class, rounded: 2, 2 and 1


@pytest.mark.slow
@pytest.mark.parametrize("known", [False, True])
def test_the_recipe_runs_to_its_end(tmp_path: Path, known: bool) -> None:
    """Everything but epochs, network and runtimes is as `init` chose it."""
    if known:
        folder(tmp_path / 'my "own" photos', cat=12, dog=9, truck=8)
    else:
        own_photos(tmp_path)
    assert call("init", 'my "own" photos', "--output", "own.yaml", cwd=tmp_path).returncode == 0
    first = "distilled" if known else "trained"
    changes = (f"{first}.student=test_resnet", f"{first}.epochs=1", "pruned.repair.epochs=1", "pruned.round_to=4")
    words = [word for change in changes for word in ("--set", f"stages.{change}")]
    words += ["--set", "stages.files.runtimes=[onnxruntime]", "--set", "stages.files.from=[int8]"]
    done = call("run", "own.yaml", *words, "--set", "measure={rounds: 5, processes: 1, energy: off}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads(next(tmp_path.glob("runs/*/*/results.json")).read_text())
    made = [variant["id"] for variant in results["variants"]]
    assert made == ["teacher"] * known + [first, "pruned", "int8"]


@pytest.mark.slow
def test_init_plan_run_on_six_uneven_classes_without_editing_a_file(tmp_path: Path) -> None:
    """Fewer epochs, to save time."""
    made = make_photographs(
        tmp_path / "my photos", {name: (cifar, -(-count // 2)) for name, (cifar, count) in SIX.items()}
    )
    variables = {**environment(), "HF_HUB_OFFLINE": "1"}

    def work(*arguments: str) -> str:
        command = [sys.executable, "-m", "compress", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=variables)
        assert done.returncode == 0, done.stderr
        return done.stdout

    fewer = ("--set", "stages.trained.epochs=20", "--set", "stages.pruned.repair.epochs=5")
    assert "6 classes" in work("init", "my photos")
    assert "in the store" not in work("plan", "recipe.yaml", *fewer)
    assert "report.html" in work("run", "recipe.yaml", *fewer)
    recipe = load_recipe(tmp_path / "recipe.yaml")
    results = json.loads(next(tmp_path.glob(f"runs/{recipe.name}/*/results.json")).read_text())
    assert [variant["id"] for variant in results["variants"]] == ["trained", "pruned", "int8"]
    assert results["data"]["test"] > 25 and results["data"]["skipped"] == made["broken"] > 0
    assert all(variant["artifacts"] for variant in results["variants"])
    assert work("plan", "recipe.yaml", *fewer).count("in the store") == len(recipe.stages) + 2
