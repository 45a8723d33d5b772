"""Recipes for MLPerf Tiny's targets run end to end, on generated images, with the embedded teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import photographs

from compress import load_recipe, run
from compress.report.targets import target_tables

IDS = {"teacher", "resnet8", "trained", "distilled", "int8", "resnet8-int8"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["85", "91"])
def test_recipe_runs_end_to_end_and_reports_its_target(name: str, tmp_path: Path) -> None:
    for part, count in (("train", 20), ("test", 8)):
        photographs(tmp_path / "images" / part, count, seed=count)
    changes = [f"data={{source: image-folder, path: {tmp_path / 'images'}, resolution: 32}}", "measure.rounds=5"]
    changes += ["measure.processes=1", "measure.energy=off"]
    for stage in ("resnet8", "trained", "distilled"):
        changes += [f"stages.{stage}.epochs=1", f"stages.{stage}.batch=16"]
    changes.append("stages.distilled.views=1")
    finished = run(load_recipe(f"mlperf_tiny/{name}", changes), tmp_path / "runs")
    assert finished
    variants = {variant.id: variant for variant in finished.record.variants}
    assert set(variants) == IDS
    assert variants["resnet8"].inference.macs > 3 * variants["distilled"].inference.macs
    assert variants["trained"].inference.macs == variants["distilled"].inference.macs == variants["int8"].inference.macs
    (table,) = target_tables(finished.record)
    assert len(table.rows) == 2 * (len(IDS) - 1) and {row[0] for row in table.rows} == {f"{name}.0%"}


@pytest.mark.parametrize(("name", "most"), [("85", 4e6), ("91", 15e6)])
def test_students_stay_below_the_macs_that_the_recipe_promises(name: str, most: float) -> None:
    from compress.measurement.compute import macs
    from compress.models.factory import create_model

    trained, distilled = (
        stage for stage in load_recipe(f"mlperf_tiny/{name}").stages if stage.id in ("trained", "distilled")
    )
    assert trained.student == distilled.student and trained.epochs == distilled.epochs
    student = distilled.student
    assert macs(create_model(student.library, student.model, 10, 32, options=student.options), 32) <= most
