"""The device of a run: every kind of stage computes on it, and nothing on the CPU meets it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretended_cuda import pretended_cuda
from safetensors.torch import save_file
from support import photographs

from compress.data.prepared import planned_data
from compress.models.factory import create_model
from compress.pipeline.dry_run import dry_run
from compress.pipeline.plan import make_plan
from compress.recipe import Recipe
from compress.recipe.load import parse_recipe
from compress.registry import STAGES
from compress.store.store import Store

HEAD = """\
name: tiny
data: {source: image-folder, path: ROOT/images, resolution: 32}
trainer: {accelerator: cuda}
worth: {references: [probed], tolerance: 0.2}
stages:
  - id: probed
    kind: teacher
    teacher: {source: timm, model: test_resnet, checkpoint: ROOT/teacher.safetensors, head: probe}
  - {id: own, kind: model, model: {source: timm, model: test_resnet, checkpoint: ROOT/teacher.safetensors,
     classes: [across, both, down]}}
  - {id: scratch, kind: train, student: test_resnet, epochs: 1, ema: 0.9, mix: {kind: cutmix}, clip: 1}
  - {id: distilled, kind: distill, from: probed, student: test_resnet, epochs: 1, verify: 2, on_divergence: lower,
     losses: {ce: 1, kd: 1, dkd: 1, dist: 1, embedding: 0.5, crd: 1, rkd_distance: 1, rkd_angle: 1}}
"""
FURTHER = """\
  - {id: features, kind: train, student: {model: test_resnet, checkpoint: ROOT/teacher.safetensors, head: probe}}
  - {id: live, kind: distill, from: probed, student: test_resnet, epochs: 1, teacher: live, classifier: teacher,
     losses: {embedding: 1, hint: {weight: 1, student_layer: layer1, teacher_layer: model.layer1},
     attention: {weight: 1, student_layer: layer1, teacher_layer: model.layer1}}}
  - {id: pruned, kind: prune, from: scratch, target_macs: 0.8, round_to: 16, importance: taylor, ranking: sensitivity,
     analyse: [0.5], repair: {epochs: 1}}
  - {id: narrow, kind: shrink, from: pruned}
  - {id: longer, kind: match, from: pruned, baseline: scratch}
  - {id: sparse, kind: sparsify, from: scratch, repair: {epochs: 1}}
  - {id: int8, kind: quantize, from: distilled, calibration_images: 4, keep_accuracy: 0.99}
  - {id: aware, kind: quantize, from: distilled, calibration_images: 4, training: {epochs: 1}}
  - {id: files, kind: export, from: [scratch], runtimes: [onnxruntime]}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three classes, and the weights of a teacher."""
    root = tmp_path_factory.mktemp("device")
    for part in ("train", "val", "test", "unlabeled"):
        photographs(root / "images" / part, 3, seed=len(part))
    torch.manual_seed(0)
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), root / "teacher.safetensors")
    return root


def make(root: Path, folder: Path, recipe: Recipe) -> None:
    """Make all stages of a recipe on a few images."""
    store = Store(folder / "store")
    with pretended_cuda():
        plan = make_plan(recipe, store)
        dry_run(plan, store, planned_data(recipe.data, store, recipe.seed, plan.data_key))


def test_stages_compute_on_the_device_alone(root: Path, tmp_path: Path) -> None:
    make(root, tmp_path, parse_recipe(HEAD.replace("ROOT", str(root))))


@pytest.mark.slow
def test_every_kind_of_stage_computes_on_the_device_alone(root: Path, tmp_path: Path) -> None:
    recipe = parse_recipe((HEAD + FURTHER).replace("ROOT", str(root)))
    assert {stage.kind for stage in recipe.stages} == set(STAGES)
    make(root, tmp_path, recipe)
