"""Baselines with a variant's whole training compute: added to a recipe, planned, and trained in the tiny job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from support import Job

from compress.pipeline.plan import make_plan
from compress.recipe.load import parse_recipe
from compress.recipe.schema import Recipe
from compress.stages.match import make
from compress.store.store import Store
from compress.utils.errors import RecipeError

RECIPE = """
name: matched
data: cifar10-sample
stages:
  - {id: teacher, kind: teacher, teacher: embedded}
  - {id: scratch, kind: train, student: resnet18, batch: 32}
  - {id: distilled, kind: distill, from: teacher, student: resnet18}
  - {id: pruned, kind: prune, from: distilled, target_macs: 0.5}
  - {id: narrow, kind: shrink, from: pruned}
  - {id: bare, kind: prune, from: distilled, target_macs: 0.5, repair: {epochs: 0}}
  - {id: int8, kind: quantize, from: pruned}
  - {id: files, kind: export, from: [distilled, int8], runtimes: [onnxruntime]}
"""
ON = "worth.compute_matched=true"


def loaded(*changes: str, further: str = "") -> Recipe:
    return parse_recipe(RECIPE + further, list(changes))


def keys(tmp_path: Path, *changes: str, further: str = "") -> dict[str, str]:
    return {unit.id: unit.key for unit in make_plan(loaded(*changes, further=further), Store(tmp_path)).stages}


def test_distilled_and_repaired_variants_get_a_control_per_baseline() -> None:
    assert [stage.id for stage in loaded().stages][-1] == "files"
    added = [stage for stage in loaded(ON).stages if stage.kind == "match"]
    assert [(stage.id, *stage.parents()) for stage in added] == [
        ("scratch-for-distilled", "distilled"),
        ("scratch-for-pruned", "pruned"),
    ]


def test_a_network_is_no_control_of_what_it_teaches() -> None:
    small = "  - {id: small, kind: distill, from: scratch, student: resnet18}\n"
    small += "  - {id: smaller, kind: prune, from: small, target_macs: 0.5}\n"
    added = [stage.id for stage in loaded(ON, further=small).stages if stage.kind == "match"]
    assert added == ["scratch-for-distilled", "scratch-for-pruned"]


def test_control_that_the_recipe_has_is_not_added_again(tmp_path: Path) -> None:
    written = yaml.safe_dump(loaded(ON).resolved())
    assert [stage.id for stage in parse_recipe(written).stages] == [stage.id for stage in loaded(ON).stages]
    own = loaded(ON, further="  - {id: mine, kind: match, from: pruned, baseline: scratch}\n")
    assert [stage.id for stage in own.stages if stage.kind == "match"] == ["mine", "scratch-for-distilled"]


def test_id_of_a_control_is_free_and_short_enough() -> None:
    long = "d" * 64
    ids = [stage.id for stage in parse_recipe(RECIPE.replace("distilled", long), [ON]).stages]
    assert len(set(ids)) == len(ids) and max(map(len, ids)) == 64
    taken = loaded(ON, further="  - {id: scratch-for-pruned, kind: train, student: resnet18}\n")
    assert "scratch-for-pruned-2" in [stage.id for stage in taken.stages]


def test_controls_change_no_other_key(tmp_path: Path) -> None:
    off, on = keys(tmp_path), keys(tmp_path, ON)
    assert off.items() <= on.items()
    assert len(set(on.values())) == len(on)


def test_key_of_a_control_has_its_variant_and_the_settings_of_its_baseline(tmp_path: Path) -> None:
    def of(*changes: str) -> str:
        return keys(tmp_path, ON, *changes)["scratch-for-distilled"]

    assert of("stages.scratch.epochs=3") == of(), "its epochs are its own"
    assert of("stages.scratch.patience=3") == of(), "and all of them are trained"
    assert of("stages.scratch.lr=0.01") != of()
    assert of("stages.distilled.epochs=3") != of()
    assert of("stages.scratch.seed=5") != of()


def test_control_has_no_teacher_though_its_variant_has(tmp_path: Path) -> None:
    plan = make_plan(loaded(ON), Store(tmp_path))
    control = plan.stage("scratch-for-pruned")
    assert control.teacher is None and control.parent == "pruned"
    assert plan.origin(control).id == "scratch"


def test_control_of_an_impatient_baseline_trains_all_of_its_epochs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would get less compute than what it is the control of."""
    trained: list[Any] = []
    replaced = {"new_student": (None, ()), "_matching_epochs": 7, "store_network": None}
    for name, value in replaced.items():
        monkeypatch.setattr(make, name, lambda *_, value=value: value)
    monkeypatch.setattr(make, "fit_stage", lambda *given: trained.append(given[4]))
    plan = make_plan(loaded(ON, "stages.scratch.patience=1"), Store(tmp_path))
    spent = SimpleNamespace(training=SimpleNamespace(macs=1))
    context: Any = SimpleNamespace(plan=plan, recipe=plan.recipe, metrics=lambda _: spent)
    make.make_matched(context, plan.stage("scratch-for-pruned"), tmp_path)
    assert [(settings.epochs, settings.patience) for settings in trained] == [(7, None)]


QAT = "method: torchao, training: {epochs: 1}"


@pytest.mark.parametrize("kind", ["prune, target_macs: 0.5", "sparsify", f"quantize, {QAT}"])
def test_what_starts_from_a_control_has_no_teacher_either(kind: str, tmp_path: Path) -> None:
    further = "  - {id: mine, kind: match, from: pruned, baseline: scratch}\n"
    further += "".join(f"  - {{id: of-{name}, kind: {kind}, from: {name}}}\n" for name in ("mine", "narrow"))
    plan = make_plan(loaded(further=further), Store(tmp_path))
    assert plan.stage("of-mine").teacher is None
    assert plan.stage("of-narrow").teacher == "teacher", "the other control is distilled"


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("nobody", "unknown stage 'nobody'; name a train stage"),
        ("distilled", "'distilled' is of kind distill; name a train stage"),
    ],
)
def test_baseline_must_be_a_train_stage(baseline: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        loaded(further=f"  - {{id: mine, kind: match, from: pruned, baseline: {baseline}}}\n")


@pytest.mark.slow
def test_control_is_trained_for_as_much_compute_and_compared(done_job: Callable[[], Job]) -> None:
    job = done_job()
    job.write(deployed=False)
    before = {variant["id"]: variant["stage_key"] for variant in job.results()["variants"]}
    done = job.run_here("--set", ON)
    assert done.returncode == 0, done.stderr
    results = job.results()
    variants = {variant["id"]: variant for variant in results["variants"]}
    assert results["run"]["made"] == ["scratch-for-distilled", "scratch-for-pruned"]
    assert all(variants[name]["stage_key"] == before[name] for name in variants.keys() & before.keys())
    for of in ("distilled", "pruned"):
        control = variants[f"scratch-for-{of}"]
        assert control["control"]["of"] == of and control["control"]["repeats"] == "scratch"
        assert control["training"]["teacher_pretraining"]["macs"] == 0
        curve, whole = control["training"]["curve"], variants[of]["training"]["macs"]
        epoch = curve[0]["macs"]
        assert whole <= curve[-1]["macs"] < whole + epoch, "at least as much, by less than an epoch"
        assert all(len(point["right"]) == 2 * -(-results["data"]["validation"] // 8) for point in curve)
    stated = {row["variant"]: row for row in results["training_efficiency"] if row["primary"]}
    assert set(stated) == {"distilled", "pruned"}
    assert all(row["baseline"] == "scratch" and row["doublings_ci95"] for row in stated.values())
