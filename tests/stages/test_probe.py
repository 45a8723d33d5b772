"""`head: probe` of timm and torchvision classifiers, as teachers and as students."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from support import Job, photographs

from compress.measurement.compute import macs
from compress.models.checkpoints import load_variant
from compress.models.features import FeatureTower
from compress.models.fingerprint import embedding_id
from compress.pipeline.plan import make_plan
from compress.pipeline.runner import run
from compress.recipe import load_recipe
from compress.recipe.models import ClassifierTeacher, Student
from compress.stages.train import TrainStage
from compress.store.store import Store
from compress.utils.errors import CompressError, RecipeError

RECIPE = """\
name: tiny
data: {{source: image-folder, path: {root}/images, resolution: 32}}
stages:
  - {{id: teacher, kind: teacher, teacher: {{source: timm, model: test_resnet, checkpoint: {root}/other.safetensors,
     head: probe, resolution: 48}}}}
  - {{id: probed, kind: train, student: {{model: test_resnet, checkpoint: {root}/other.safetensors, head: probe}}}}
  - {{id: distilled, kind: distill, from: teacher, student: test_resnet, epochs: 1, batch: 16, views: 1,
     losses: {{kd: 1, embedding: 1}}, freeze: [conv1, bn1]}}
  - {{id: int8, kind: quantize, from: teacher, calibration_images: 16}}
measure: {{batches: [1], rounds: 5, processes: 1, energy: off}}
worth: {{references: [probed]}}
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """A teacher and a student with weights for seven other classes, probed for three."""
    job = Job(tmp_path_factory.mktemp("probed"))
    for split, count in (("train", 16), ("test", 6)):
        photographs(job.root / "images" / split, count, seed=count)
    torch.manual_seed(0)
    save_file(timm.create_model("test_resnet", num_classes=7).state_dict(), job.root / "other.safetensors")
    job.recipe.write_text(RECIPE.format(root=job.root))
    run(load_recipe(job.recipe), job.runs, dry_run_first=False)
    yield job


def test_a_probe_keeps_the_features_and_is_charged(probed: Job) -> None:
    results = {variant["id"]: variant for variant in probed.results()["variants"]}
    store = Store(probed.runs / "store")
    key = {planned.id: planned.key for planned in make_plan(load_recipe(probed.recipe), store).stages}
    network = load_variant(store.path(key["probed"])).model
    given = load_file(probed.root / "other.safetensors")
    own = network.state_dict()
    assert {
        name for name in given if own[name].shape != given[name].shape or not torch.equal(own[name], given[name])
    } == {
        "fc.weight",
        "fc.bias",
    }
    assert own["fc.weight"].shape[0] == 3 and results["probed"]["accuracy"]["top1"] > 0.5
    for name, side in (("probed", 32), ("teacher", 48)):
        tower = FeatureTower(timm.create_model("test_resnet", num_classes=7), side)
        parts = {part["what"]: part["macs"] for part in results[name]["training"]["parts"]}
        embedded = next(what for what in parts if what.startswith("probe: embeddings of "))
        assert parts[embedded] == int(embedded.split()[3]) * macs(tower, side) and parts["probe: fit of the head"] > 0
    assert results["probed"]["training"]["selected_on"] == "validation"


def test_a_student_learns_from_the_features_of_a_probed_teacher(probed: Job) -> None:
    results = {variant["id"]: variant for variant in probed.results()["variants"]}
    assert results["teacher"]["accuracy"]["top1"] > 0.5 and results["distilled"]["accuracy"]["n"] == 18
    plan = make_plan(load_recipe(probed.recipe), Store(probed.runs / "store"))
    widths = {np.load(file, mmap_mode="r").shape[1] for file in (probed.runs / "store").glob("*/embeddings.npy")}
    assert results["int8"]["accuracy"]["top1"] > 0.5, "the probe is the head of the network"
    assert widths == {timm.create_model("test_resnet").num_features} and len(plan.stages) == 4


def test_logits_and_features_of_one_teacher_are_different_embeddings(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    own = ClassifierTeacher(source="timm", model="test_resnet", checkpoint=str(tmp_path / "w.safetensors"))
    features = own.model_copy(update={"head": "probe"})
    assert embedding_id(own) != embedding_id(features) and "head" not in own.model_dump()
    assert "head" not in Student(model="test_resnet").model_dump()


@pytest.mark.parametrize(
    ("library", "model"), [("timm", "test_vit"), ("timm", "mobilenetv3_small_050"), ("torchvision", "alexnet")]
)
def test_the_head_of_a_network_is_replaced(library: str, model: str) -> None:
    from compress.models.factory import create_model

    torch.manual_seed(0)
    side = 64
    tower = FeatureTower(create_model(library, model, 5, side).eval(), side)
    head = torch.nn.Linear(tower.width, 3)
    network = tower.with_head(head)
    images = torch.rand(2, 3, side, side)
    again = create_model(library, model, 3, side).eval()
    again.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert network(images).shape == (2, 3) and torch.allclose(again(images), network(images), atol=1e-5)


def test_a_network_that_ends_otherwise_has_no_probe() -> None:
    class Scaled(torch.nn.Module):
        def __init__(self, scale: float, mapped: bool) -> None:
            super().__init__()
            self.body, self.head, self.scale = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2), scale
            self.mapped = mapped

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            maps = self.body(images)
            logits = self.head(maps.permute(0, 2, 3, 1)).mean((1, 2)) if self.mapped else self.head(maps.mean((2, 3)))
            return logits * self.scale

    FeatureTower(Scaled(1.0, mapped=False), 8).with_head(torch.nn.Linear(4, 3))
    with pytest.raises(CompressError, match="the last layer of Scaled, head, does not map one vector per image"):
        FeatureTower(Scaled(2.0, mapped=False), 8).with_head(torch.nn.Linear(4, 3))


def test_features_of_a_repository_of_the_hub_are_trained(probed: Job) -> None:
    change = "stages.probed.student={model: 'hf-hub:timm/resnet18.a1_in1k', head: probe}"
    stages = {stage.id: stage for stage in load_recipe(probed.recipe, [change]).stages}
    probe = stages["probed"]
    assert isinstance(probe, TrainStage) and probe.probed and probe.starts_trained


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stages.probed.epochs=3", "epochs: is for training, and `head: probe` trains nothing; remove it"),
        (
            "stages.probed.student={model: test_resnet, head: probe}",
            "keeps features, which are random here; set `pretrained",
        ),
        ("stages.distilled.student={model: test_resnet, head: probe}", "`head: probe` learns from labels alone"),
    ],
)
def test_settings_that_exclude_each_other_are_named(probed: Job, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        load_recipe(probed.recipe, [change])
