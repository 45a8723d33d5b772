"""Shipped STL-10 recipes run end to end, on noise in STL-10's file format, with a ViT-B/32 of OpenCLIP as teacher.

Weights are random, architecture, tokenizer and input size are those of the published teacher.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import write_open_clip, write_stl10

from compress import load_recipe, run
from compress.recipe.schema import Recipe

NAMES = [
    "openclip_resnet18_stl10",
    *(f"jetson_example/{name}" for name in ("teachers", "train", "unlabeled", "embedding")),
]
COUNTS = {"train": 30, "test": 20, "unlabeled": 10}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Images, teacher and store, which the recipes share."""
    folder = tmp_path_factory.mktemp("stl10")
    write_open_clip(folder / "teacher", "ViT-B-32")
    with pytest.MonkeyPatch.context() as patch:
        write_stl10(folder, patch, **COUNTS)
        yield folder
    shutil.rmtree(folder)  # gigabytes


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_stl10_recipe_runs_end_to_end(name: str, folder: Path) -> None:
    _check(name, folder)


def test_stl10_recipe_runs_with_small_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vision, text = {"image_size": 64, "layers": 2, "width": 64}, {"layers": 1, "width": 64, "heads": 2}
    write_open_clip(tmp_path / "teacher", "ViT-B-32", vision_cfg=vision, text_cfg=text)
    write_stl10(tmp_path, monkeypatch, **COUNTS)
    _check("jetson_example/embedding", tmp_path, student="test_resnet")


def _check(name: str, folder: Path, student: str | None = None) -> None:
    """Run a recipe, and assert that its results have each variant, with the published figures of the recipe."""
    shipped = load_recipe(name)
    finished = run(load_recipe(name, _changes(shipped, folder, student)), folder / "runs")
    assert finished
    variants = finished.record.variants
    made = {variant.id for variant in variants}
    assert made == {stage.id for stage in shipped.stages if stage.kind != "export"}
    published = [(stage.id, stage.published) for stage in shipped.stages if stage.published]
    assert {v.id for v in variants if v.published} == {name for name, stated in published if stated.top1}
    assert {v.id for v in variants if v.published_inference} == {name for name, stated in published if stated.inference}
    for variant in variants:
        assert variant.accuracy.n == COUNTS["test"] and variant.inference.macs > 0


def _changes(recipe: Recipe, folder: Path, student: str | None) -> list[str]:
    """Return overrides for a small run: images and teacher in `folder`, perhaps another student, one epoch."""
    changes = [
        f"data.root={folder}",
        "data.download=false",
        "trainer.accelerator=cpu",
        "measure.batches=[1]",
        "measure.rounds=5",
        "measure.processes=1",
        "measure.energy=off",
    ]
    for stage in recipe.stages:
        if stage.kind == "teacher":
            model = f"source: open_clip, model: 'local-dir:{folder}/teacher', head: {stage.teacher.head}"
            changes.append(f"stages.{stage.id}.teacher={{{model}}}")
        elif stage.kind in ("train", "distill"):
            changes.append(f"stages.{stage.id}.epochs=1")
            changes += [f"stages.{stage.id}.student.model={student}"] if student else []
        elif stage.kind == "prune":
            changes.append(f"stages.{stage.id}.repair.epochs=1")
    return changes
