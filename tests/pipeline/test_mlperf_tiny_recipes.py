"""Recipes for MLPerf Tiny's targets and for their teacher run end to end, on generated images."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import photographs

from compress import load_recipe, run
from compress.report.targets import target_tables
from compress.stages.distill import DistillStage
from compress.stages.export import ExportStage
from compress.stages.prune import PruneStage
from compress.stages.teacher import TeacherStage
from compress.stages.train import TrainStage

NAMES = ["85", "85_controls", "91", "91_controls", "85_imagenet", "91_imagenet"]
TEACHER = "cifar10_96"


def short(name: str, images: Path) -> list[str]:
    """Overrides that let a recipe take a minute."""
    changes = [f"data={{source: image-folder, path: {images}, resolution: 32}}", "measure.rounds=5"]
    changes += ["measure.processes=1", "measure.energy=off"]
    for stage in load_recipe(name).stages:
        if isinstance(stage, TeacherStage):
            changes.append(f"stages.{stage.id}.teacher=embedded")
        if isinstance(stage, TrainStage | DistillStage):
            changes += [f"stages.{stage.id}.epochs=1", f"stages.{stage.id}.batch=16"]
        if isinstance(stage, DistillStage):
            changes.append(f"stages.{stage.id}.views=1")
        if isinstance(stage, PruneStage):
            changes += [f"stages.{stage.id}.repair.{change}" for change in ("epochs=1", "batch=16", "views=1")]
    return changes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_recipe_runs_end_to_end_and_reports_its_target(name: str, tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 8)):
        photographs(tmp_path / "images" / part, count, seed=count)
    recipe = load_recipe(f"mlperf_tiny/{name}", short(f"mlperf_tiny/{name}", tmp_path / "images"))
    finished = run(recipe, tmp_path / "runs")
    assert finished
    exported = {each for stage in recipe.stages if isinstance(stage, ExportStage) for each in stage.from_}
    (table,) = target_tables(finished.record)
    assert len(table.rows) == 2 * len(exported) and {row[0] for row in table.rows} == {f"{name[:2]}.0%"}
    if most := {"85": 4e6, "91": 24.6e6, "85_imagenet": 4e6, "91_imagenet": 15e6}.get(name):
        macs = {variant.id: variant.inference.macs for variant in finished.record.variants}
        assert macs["int8"] == macs["pruned"] <= most < macs["dense-int8"] == macs["distilled"]


@pytest.mark.slow
def test_recipe_of_the_teacher_runs_end_to_end(tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 8)):
        photographs(tmp_path / "images" / part, count, seed=count)
    finished = run(load_recipe(TEACHER, short(TEACHER, tmp_path / "images")), tmp_path / "runs")
    assert finished and len(finished.record.variants) == 2


@pytest.mark.parametrize("name", ["85_imagenet", "91_imagenet"])
def test_the_teacher_of_students_from_imagenet_is_in_the_store_after_its_own_recipe(name: str) -> None:
    one, other = load_recipe(TEACHER), load_recipe(f"mlperf_tiny/{name}")
    assert (one.data, one.trainer, one.seed) == (other.data, other.trainer, other.seed)
    assert one.stages[0].model_copy(update={"id": "teacher"}) == other.stages[0]


@pytest.mark.parametrize(("name", "most"), [("85", 9.2e6), ("91", 35.1e6)])
def test_students_are_those_of_their_controls_and_have_the_macs_that_the_recipe_states(name: str, most: float) -> None:
    from compress.measurement.compute import macs
    from compress.models.factory import create_model

    recipes = [load_recipe(f"mlperf_tiny/{each}") for each in (name, f"{name}_controls")]
    stages = {stage.id: stage for recipe in recipes for stage in recipe.stages}
    trained, distilled = stages["trained"], stages["distilled"]
    assert trained.student == distilled.student and trained.epochs == distilled.epochs
    assert (trained.lr, trained.weight_decay) == (distilled.lr, distilled.weight_decay)
    student = distilled.student
    assert macs(create_model(student.library, student.model, 10, 32, options=student.options), 32) <= most
