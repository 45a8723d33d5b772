"""Shipped STL-10 recipes run end to end, on noise in STL-10's file format, with the embedded teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import write_stl10

from compress import load_recipe, run

NAMES = [
    "openclip_resnet18_stl10",
    *(f"jetson_example/{name}" for name in ("teachers", "train", "unlabeled", "embedding")),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_stl10_recipe_runs_end_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_stl10(tmp_path, monkeypatch, train=60, test=20, unlabeled=30)
    changes = [
        f"data.root={tmp_path}",
        "data.download=false",
        "trainer.accelerator=cpu",
        "measure.rounds=5",
        "measure.processes=1",
    ]
    changes.append("measure.energy=off")
    shipped = load_recipe(name)
    for stage in shipped.stages:
        if stage.kind == "teacher":
            head = stage.teacher.head
            changes.append(f"stages.{stage.id}.teacher={{use: embedded, head: {head}}}")
        elif stage.kind in ("train", "distill"):
            changes.append(f"stages.{stage.id}.epochs=1")
        elif stage.kind == "prune":
            changes.append(f"stages.{stage.id}.repair.epochs=1")
    finished = run(load_recipe(name, changes), tmp_path / "runs")
    assert finished
    variants = finished.record.variants
    made = {variant.id for variant in variants}
    assert made == {stage.id for stage in shipped.stages if stage.kind != "export"}
    published = [(stage.id, stage.published) for stage in shipped.stages if stage.published]
    assert {v.id for v in variants if v.published} == {name for name, stated in published if stated.top1}
    assert {v.id for v in variants if v.published_inference} == {name for name, stated in published if stated.inference}
    for variant in variants:
        assert variant.accuracy.n == 20 and variant.inference.macs > 0
