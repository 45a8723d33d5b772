"""Store keys contain everything that determines a stage, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from compress.models.fingerprint import shard_keys
from compress.pipeline.collect import _pretraining
from compress.pipeline.plan import host_key, make_plan, part_of, plan_stages
from compress.recipe.data import PLAIN, Views
from compress.recipe.load import parse_recipe
from compress.stages.planned import Plan
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


def test_latency_on_a_gpu_is_of_that_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keys_of(runtime: str, card: str) -> tuple[str, str]:
        monkeypatch.setattr("compress.deployment.gpu.kind", lambda: [card])
        files = "stages=[{id: teacher, kind: teacher, teacher: embedded}, {id: small, kind: distill, from: teacher, "
        files += f"student: resnet18}}, {{id: files, kind: export, from: [small], runtimes: [{runtime}]}}]"
        plan = make_plan(parse_recipe(RECIPE, [files]), Store(tmp_path))
        return plan.latency_key, plan.energy_key

    assert keys_of("onnxruntime", "H200") == keys_of("onnxruntime", "T4")
    assert not set(keys_of("onnxruntime-cuda", "H200")) & set(keys_of("onnxruntime-cuda", "T4"))


def test_what_failed_is_part_of_the_key_of_every_measurement(tmp_path: Path) -> None:
    """An export that could not make all of its files is tried again under its own key, and then measured again."""
    files = "stages=[{id: teacher, kind: teacher, teacher: embedded}, {id: small, kind: distill, from: teacher, "
    files += "student: resnet18}, {id: files, kind: export, from: [small], runtimes: [onnxruntime]}]"
    plan = make_plan(parse_recipe(RECIPE, [files]), Store(tmp_path))

    def keys_of(plan: Plan) -> tuple[str, ...]:
        return plan.latency_key, plan.energy_key, host_key(plan, "ssh://pi", "onnxruntime")

    assert keys_of(part_of(plan, [], ())) == keys_of(plan)
    failed = keys_of(part_of(plan, ["files/small/onnxruntime"], ()))
    assert not set(failed) & set(keys_of(plan)) and len(set(failed)) == 3


def test_seed_of_a_stage_changes_its_key_and_those_of_its_descendants(keys) -> None:
    plain, own = keys(), keys("stages.distilled.seed=1")
    assert {name for name in plain if plain[name] != own[name]} == {"distilled", "pruned"}
    assert keys("stages.distilled.seed=0") == plain  # the recipe's own
    assert keys("stages.distilled.seed=0", "seed=1") != keys("seed=1")


def test_settings_that_do_not_affect_results_are_not_in_keys(keys) -> None:
    assert keys("stages.distilled.verify=8", "stages.teacher.teacher.batch=8") == keys()
    pruned = keys("stages.pruned.repair.seed=1")
    assert {name for name, key in keys().items() if pruned[name] != key} == {"pruned"}


TIMM = "{source: timm, model: test_resnet, pretrained: true"
CLIP = "{source: open_clip, model: ViT-B-32, pretrained: openai"


@pytest.mark.parametrize(
    ("teacher", "has_prompts"),
    [
        (f"{CLIP}}}", True),
        (f"{CLIP}, head: probe}}", False),
        (f"{TIMM}}}", False),
        (f"{{source: ensemble, members: [{CLIP}}}, {TIMM}}}]}}", True),
        (f"{{source: ensemble, members: [{CLIP}}}, {TIMM}}}], combine: embeddings}}", False),
        (f"{{source: ensemble, members: [{CLIP}, head: probe}}, {TIMM}}}]}}", False),
    ],
)
def test_prompts_are_in_the_keys_of_teachers_whose_heads_are_made_from_them(
    tmp_path: Path, teacher: str, has_prompts: bool
) -> None:
    def key(*changes: str) -> str:
        recipe = parse_recipe(f"data: cifar10-sample\nstages: [{{id: t, kind: teacher, teacher: {teacher}}}]", changes)
        return make_plan(recipe, Store(tmp_path)).stages[0].key

    assert (key() != key("data.templates=['an image of {}']")) == has_prompts


def test_post_training_quantization_depends_on_no_setting_of_training(tmp_path: Path) -> None:
    stages = f"""
  - {{id: own, kind: model, model: {TIMM.replace(", pretrained: true", "")}}}}}
  - {{id: int8, kind: quantize, from: own, method: torchao}}
  - {{id: aware, kind: quantize, from: own, method: torchao, training: {{epochs: 1}}}}
  - {{id: probed, kind: train, student: {{model: test_resnet, pretrained: true, head: probe}}}}
"""

    def changed(*changes: str) -> set[str]:
        plans = [
            make_plan(parse_recipe(f"data: cifar10-sample\nstages:{stages}", c), Store(tmp_path)) for c in ((), changes)
        ]
        before, after = ({unit.id: unit.key for unit in plan.stages} for plan in plans)
        return {name for name in before if before[name] != after[name]}

    assert changed("data.views=strong") == {"aware"}
    assert changed("trainer.precision=bf16-mixed") == {"aware", "probed"}


def test_order_of_training_is_in_the_keys_of_what_is_trained_in_it(tmp_path: Path) -> None:
    """It changes no image of any split, so that the data, teachers and calibrations are the same."""
    recipe = f"""
data: {{source: webdataset, path: train.tar, images: files}}
stages:
  - {{id: own, kind: model, model: {TIMM.replace(", pretrained: true", "")}}}}}
  - {{id: small, kind: distill, from: own, student: test_resnet}}
  - {{id: scratch, kind: train, student: test_resnet}}
  - {{id: probed, kind: train, student: {{model: test_resnet, pretrained: true, head: probe}}}}
  - {{id: again, kind: match, from: small, baseline: scratch}}
  - {{id: int8, kind: quantize, from: own, method: torchao}}
"""
    before, after = (plan_stages(parse_recipe(recipe, changes), "data") for changes in ((), ["data.order=shards"]))
    changed = {one.id for one, other in zip(before.stages, after.stages, strict=True) if one.key != other.key}
    assert changed == {"small", "scratch", "again"}


@pytest.mark.parametrize(
    ("student", "read"),
    [
        ("resnet18", False),
        ("{model: resnet18, pretrained: true}", True),
        ("{model: 'hf-hub:timm/resnet18.a1_in1k'}", True),
        ("{model: 'hf-hub:timm/resnet18.a1_in1k', head: probe}", True),
    ],
)
def test_keys_of_students_with_weights_have_the_way_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, student: str, read: bool
) -> None:
    recipe = parse_recipe(f"data: cifar10-sample\nstages: [{{id: s, kind: train, student: {student}}}]")
    before = make_plan(recipe, Store(tmp_path)).stages[0].key
    monkeypatch.setattr("compress.stages.network.READER", "next")
    assert (make_plan(recipe, Store(tmp_path)).stages[0].key != before) == read


def test_embeddings_of_images_as_they_are_do_not_depend_on_the_seed() -> None:
    def keys_of(views: Views, seed: int) -> list[str]:
        return [key for _, key in shard_keys({"data": "d"}, views, seed, 0, 10, 4)]

    assert keys_of(PLAIN, 0) == keys_of(Views(shift=0, flip=False), 1) != keys_of(Views(), 0)
    assert keys_of(Views(), 0) != keys_of(Views(), 1)


def test_training_of_the_teacher_is_stated_in_full_and_as_fine_tuning(tmp_path: Path) -> None:
    def stated(*changes: str) -> tuple[float | None, float | None]:
        plan = make_plan(parse_recipe(RECIPE, list(changes)), Store(tmp_path))
        found = _pretraining(plan, Store(tmp_path), plan.stage("pruned"))
        return found.macs, found.fine_tuning

    assert stated() == pytest.approx((5.184e17, 2.034e14), rel=1e-3)
    none = "stages.teacher.teacher={use: embedded, pretraining: null}"
    assert stated(none)[0] is None, "fine-tuning alone is not all of it"
    assert stated("stages.teacher.teacher={use: embedded, pretraining: null, fine_tuning: null}") == (None, None)
