"""Robustness to corruptions: what fails under one is named, and a run measures it without making anything again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from results_factory import example_record
from results_factory import variant as make_variant
from support import Job, follows_the_schema, typed

from compress.data.corruptions import CorruptedImages, conditions
from compress.pipeline.plan import make_plan
from compress.pipeline.robustness import corruption_units, robustness
from compress.recipe.load import load_recipe
from compress.recipe.measure import Corruption
from compress.report import render_markdown
from compress.report.corruptions import corruption_tables
from compress.report.remarks import reservations
from compress.report.shown_worse import shown_worse
from compress.report.tooltips import tooltip
from compress.results import RunRecord
from compress.results.stored import predictions_file
from compress.store.store import Store

N, SIDE = 200, 32
KINDS: tuple[Corruption, ...] = ("gaussian_noise", "jpeg", "contrast", "brightness")
CHECKERS = np.where(np.indices((SIDE, SIDE)).sum(0) % 2, 1.0, -1.0)


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """Pictures of two classes, which have another colour, and a fine pattern of the other sign that JPEG removes."""
    rng, labels = np.random.default_rng(0), np.arange(N) % 2
    colour = 100 + 40 * np.stack([labels, np.zeros(N), 1 - labels], axis=1)[:, :, None, None]
    pattern = 5 * (2 * labels[:, None, None, None] - 1) * CHECKERS
    return (colour + pattern + rng.normal(0, 3, (N, 3, SIDE, SIDE))).clip(0, 255).astype(np.uint8), labels


def by_colour(images: np.ndarray) -> np.ndarray:
    red, _, blue = images.mean((2, 3)).T
    return (red > blue).astype(int)


def by_pattern(images: np.ndarray) -> np.ndarray:
    return ((images * CHECKERS).sum((1, 2, 3)) > 0).astype(int)


def worse_in_all(images: np.ndarray) -> np.ndarray:
    """Wrong on every tenth image, however it is corrupted."""
    found = by_colour(images)
    found[::10] = 1 - found[::10]
    return found


def record_of(**networks: Callable[[np.ndarray], np.ndarray]) -> RunRecord:
    """A run of these networks against the first of them."""
    images, labels = pictures()
    views = [images, *(CorruptedImages(images, *condition, 0)[:] for condition in conditions(KINDS))]
    correct = {
        (name, "pytorch", None): np.stack([network(view) == labels for view in views])
        for name, network in networks.items()
    }
    first = next(iter(networks))
    variants = tuple(map(make_variant, networks))
    headline = example_record().headline.model_copy(update={"reference": first})
    found = robustness([first], variants, correct, KINDS, SIDE)
    update = {"variants": variants, "quality_changes": (), "headline": headline, "efficiency": (), "robustness": found}
    return example_record().model_copy(update=update)


def test_a_variant_that_fails_under_jpeg_is_named_and_nothing_else() -> None:
    record = record_of(base=by_colour, fine=by_pattern, tenth=worse_in_all)
    (line,) = shown_worse(record)
    assert line.startswith("Beyond the loss on the images as they are, accuracy against base is shown to be lost by ")
    assert "fine: under JPEG −" in line and "tenth" not in line and "noise" not in line and "contrast" not in line
    assert line in reservations(record)
    (table,) = corruption_tables(record)
    cells = {row[0]: dict(zip(table.headings, row, strict=True)) for row in table.rows}
    assert cells["fine"]["shown to hurt more"] == "JPEG" and cells["tenth"]["shown to hurt more"] == "none shown"
    assert cells["base"]["shown to hurt more"] == "reference" and cells["fine"]["uncorrupted"] == "100.0%"
    figures = [heading for heading, figure in zip(table.headings, table.figures, strict=True) if figure]
    assert figures and all(tooltip(table.key, heading) for heading in figures)
    assert "CIFAR-10-C" in table.note and "severities 1, 3, 5" in table.note


def test_figures_are_those_of_the_predictions() -> None:
    record = record_of(base=worse_in_all, fine=by_pattern)
    found = record.robustness
    assert found and found.images == N and [file.variant for file in found.files] == ["base", "fine"]
    images, labels = pictures()
    (change,) = found.changes
    assert change.clean_difference == pytest.approx(-0.1) and change.clean_difference_ci95[1] < 0
    for accuracy, loss in zip(found.files[1].accuracies, change.losses, strict=True):
        view = CorruptedImages(images, accuracy.corruption, accuracy.severity, 0)[:]  # type: ignore[arg-type]
        assert accuracy.top1 == pytest.approx((by_pattern(view) == labels).mean())
        assert accuracy.ci95[0] <= accuracy.top1 <= accuracy.ci95[1]
        before = (worse_in_all(view) == labels).mean()
        assert loss.difference == pytest.approx(before - accuracy.top1)
        assert loss.ci95[0] <= loss.difference <= loss.ci95[1]
    jpeg = change.excess[0]
    assert jpeg.corruption == "jpeg" and jpeg.worse and jpeg.beyond_clean == pytest.approx(jpeg.difference + 0.1)
    errors = {kind: [1 - each.top1 for each in found.files[1].accuracies if each.corruption == kind] for kind in KINDS}
    assert change.mean_corruption_error == pytest.approx(np.mean([np.mean(errors[kind]) / 0.1 for kind in KINDS]))


def test_without_corruptions_nothing_is_written_or_said() -> None:
    record = example_record()
    assert "robustness" not in record.model_dump(mode="json") and corruption_tables(record) == []
    assert "Corruptions" not in render_markdown(record)


@pytest.mark.slow
def test_a_run_measures_networks_and_files_and_makes_nothing_again(done_job: Callable[[], Job]) -> None:
    job, wanted = done_job(), ("--set", "measure.corruptions=[jpeg, contrast]")
    (row,) = [row for row in planned(job, *wanted) if row["unit"] == "corruptions"]
    assert not row["stored"] and row["seconds"] > 0
    done = job.run_here(*wanted, "--no-dry-run")
    assert done.returncode == 0, done.stderr
    results = job.results()
    follows_the_schema(results)
    assert results["run"]["made"] == [] and "latency: taken from the store" in done.stderr
    found = {(each["variant"], each["runtime"]): each for each in results["robustness"]["files"]}
    assert set(found) == {
        *((name, "pytorch") for name in ("teacher", "scratch", "distilled", "pruned")),
        *((name, runtime) for name in ("distilled", "int8") for runtime in ("onnxruntime", "openvino")),
    }, "a quantized network in PyTorch only simulates its files"
    for variant in results["variants"]:
        tops = {"pytorch": variant["accuracy"]["top1"]} | {
            each["runtime"]: each["top1"] for each in variant["artifacts"]
        }
        for runtime, top1 in tops.items():
            assert (variant["id"], runtime) not in found or found[variant["id"], runtime]["clean"] == top1
    assert {each["reference"] for each in results["robustness"]["changes"]} == {"teacher", "distilled"}
    again = job.run_here(*wanted, "--no-dry-run")
    assert "corruptions: taken from the store" in again.stderr
    assert job.results()["robustness"] == results["robustness"]
    assert [row["stored"] for row in planned(job, *wanted) if row["unit"] == "corruptions"] == [True]
    assert not [row for row in planned(job) if row["unit"] == "corruptions"]
    only_the_lacking_file_is_evaluated(job)


def planned(job: Job, *arguments: str) -> list[dict[str, object]]:
    done = typed("plan", job.recipe, "--runs", job.runs, "--no-dry-run", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def only_the_lacking_file_is_evaluated(job: Job) -> None:
    """What a killed run has finished is kept, and the others get the same predictions again."""
    recipe, store = load_recipe(job.recipe, ["measure.corruptions=[jpeg, contrast]"]), Store(job.runs / "store")
    plan = make_plan(recipe, store)
    units = {(unit.planned.id, unit.name): unit for unit in corruption_units(plan, store)}
    unit = units["files/int8", "openvino"]
    made = predictions_file(store.path(unit.key), unit.name)
    before = np.load(made)
    shutil.rmtree(store.path(unit.key))
    done = job.run_here("--set", "measure.corruptions=[jpeg, contrast]", "--no-dry-run")
    assert done.returncode == 0, done.stderr
    assert "corruptions: jpeg, contrast; 1 networks and files" in done.stderr
    assert np.array_equal(np.load(made), before)


def test_corruptions_of_a_recipe_are_checked() -> None:
    from compress.recipe.load import parse_recipe
    from compress.utils.errors import UsageError

    text = "name: tiny\ndata: cifar10-sample\nstages: [{id: teacher, kind: teacher, teacher: embedded}]\n"
    assert parse_recipe(text, []).measure.corruption_names == ()
    assert len(parse_recipe(text, ["measure.corruptions=all"]).measure.corruption_names) == 8
    named = parse_recipe(text, ["measure.corruptions=[pixelate, jpeg]"]).measure.corruption_names
    assert named == ("jpeg", "pixelate"), "in one order, whatever that of the recipe"
    with pytest.raises(UsageError, match="jpeg is named twice"):
        parse_recipe(text, ["measure.corruptions=[jpeg, jpeg]"])
    with pytest.raises(UsageError, match="corruptions"):
        parse_recipe(text, ["measure.corruptions=[fog]"])
