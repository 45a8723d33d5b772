"""Store keys contain everything that determines a stage, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.pipeline.collect import _pretraining
from compress.pipeline.plan import make_plan
from compress.recipe.load import parse_recipe
from compress.store.store import Store

RECIPE = """
name: keys
data: cifar10-sample
stages:
  - {id: teacher, kind: teacher, teacher: embedded}
  - {id: distilled, kind: distill, from: teacher, student: resnet18}
  - {id: pruned, kind: prune, from: distilled, target_macs: 0.5}
"""


@pytest.fixture
def keys(tmp_path: Path):
    def of(*changes: str) -> dict[str, str]:
        plan = make_plan(parse_recipe(RECIPE, list(changes)), Store(tmp_path))
        return {unit.id: unit.key for unit in plan.stages}

    return of


def test_energy_and_latency_have_separate_keys(tmp_path: Path) -> None:
    def keys_of(*changes: str) -> tuple[str, str]:
        plan = make_plan(parse_recipe(RECIPE, list(changes)), Store(tmp_path))
        return plan.latency_key, plan.energy_key

    latency, energy = keys_of()
    assert latency != energy
    assert keys_of("measure.energy=off") == keys_of("measure={watts: 15, carbon_g_per_kwh: 300}") == (latency, energy)
    assert keys_of("measure.rounds=9")[0] != latency and keys_of("measure.rounds=9")[1] == energy
    assert keys_of("measure.batches=[1, 32]")[1] != energy


def test_seed_of_a_stage_changes_its_key_and_those_of_its_descendants(keys) -> None:
    plain, own = keys(), keys("stages.distilled.seed=1")
    assert {name for name in plain if plain[name] != own[name]} == {"distilled", "pruned"}
    assert keys("stages.distilled.seed=0") == plain  # the recipe's own
    assert keys("stages.distilled.seed=0", "seed=1") != keys("seed=1")


def test_settings_that_do_not_affect_results_are_not_in_keys(keys) -> None:
    assert keys("stages.distilled.verify=8", "stages.teacher.teacher.batch=8") == keys()
    pruned = keys("stages.pruned.repair.seed=1")
    assert {name for name, key in keys().items() if pruned[name] != key} == {"pruned"}


def test_training_of_the_teacher_is_stated_in_full_and_as_fine_tuning(tmp_path: Path) -> None:
    def stated(*changes: str) -> tuple[float | None, float | None]:
        plan = make_plan(parse_recipe(RECIPE, list(changes)), Store(tmp_path))
        found = _pretraining(plan, plan.stage("pruned"))
        return found.macs, found.fine_tuning

    assert stated() == pytest.approx((5.184e17, 2.034e14), rel=1e-3)
    none = "stages.teacher.teacher={use: embedded, pretraining: null}"
    assert stated(none)[0] is None, "fine-tuning alone is not all of it"
    assert stated("stages.teacher.teacher={use: embedded, pretraining: null, fine_tuning: null}") == (None, None)
