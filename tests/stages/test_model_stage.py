"""The `model` stage: an own trained network, with what starts from it and from a teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support import Job

from compress.models.architecture import Architecture, Network
from compress.models.checkpoints import load_variant, save_variant
from compress.models.class_list import ClassList
from compress.models.factory import create_model
from compress.models.own import load_own_model
from compress.models.own_files import onnx_file, own_model_files, own_model_id, variant_folder
from compress.pipeline.plan import make_plan
from compress.pipeline.runner import run
from compress.recipe.data import DataSection
from compress.recipe.load import parse_recipe
from compress.recipe.models import OwnModel
from compress.stages.model.make import copy_for
from compress.store.store import Store
from compress.utils.errors import CompressError, RecipeError

DATA = DataSection(source="cifar10-sample")
CLASSES = ("red", "green", "blue")
FROM_MODEL = """\
  - {{id: own, kind: model, model: {{source: timm, model: test_resnet, checkpoint: {root}/teacher.safetensors,
     classes: [across, both, down]}}}}
  - {{id: own-int8, kind: quantize, from: own, calibration_images: 16}}
  - {{id: own-pruned, kind: prune, from: own, target_macs: 0.6, round_to: 4, repair: {{epochs: 1, batch: 16}}}}
  - {{id: own-narrow, kind: shrink, from: own-pruned}}
  - {{id: learnt, kind: distill, from: own, student: test_resnet, epochs: 1, batch: 16}}
  - {{id: teacher-int8, kind: quantize, from: teacher, calibration_images: 16}}
  - {{id: teacher-pruned, kind: prune, from: teacher, target_macs: 0.6, round_to: 4,
     repair: {{epochs: 1, batch: 16}}}}
  - {{id: again, kind: model, model: {{source: variant, model: "{store}/{pruned}"}}}}
  - {{id: quantized, kind: model, model: {{source: variant, model: "{store}/{int8}"}}}}
  - {{id: own-files, kind: export, from: [own-int8, teacher-int8, own-pruned, again, quantized],
     runtimes: [onnxruntime]}}
"""


def own(**settings: Any) -> OwnModel:
    return OwnModel.model_validate(settings)


def load(**settings: Any) -> Any:
    return load_own_model(own(**settings), DATA, CLASSES, 32)[0]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "best.safetensors"
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), path)
    return path


@pytest.fixture(scope="module")
def finished(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Job:
    made = Job(tmp_path_factory.mktemp("own") / "copy")
    shutil.copytree(job.root, made.root)
    made.write()
    keys = {v["id"]: v["stage_key"] for v in job.results()["variants"]}
    stages = FROM_MODEL.format(root=made.root, store=made.runs / "store", **keys)
    made.recipe.write_text(made.recipe.read_text().replace("measure: ", stages + "measure: "))
    done = made.run_here("--no-dry-run")
    assert done.returncode == 0, done.stderr
    return made


def variant(job: Job, name: str) -> dict[str, Any]:
    return next(v for v in job.results()["variants"] if v["id"] == name)


@pytest.mark.slow
def test_own_model_is_evaluated_as_it_is_and_trained_by_nobody(finished: Job) -> None:
    made, teacher = variant(finished, "own"), variant(finished, "teacher")
    assert made["accuracy"]["top1"] == teacher["accuracy"]["top1"]
    assert made["training"]["macs"] == 0
    assert made["training"]["teacher_pretraining"]["macs"] is None, "its training compute is not stated"
    stored = load_file(finished.runs / "store" / made["stage_key"] / "model.safetensors")
    given = load_file(finished.root / "teacher.safetensors")
    assert stored.keys() == given.keys() and all(torch.equal(stored[name], given[name]) for name in given)


@pytest.mark.slow
def test_everything_starts_from_an_own_model_and_from_a_teacher(finished: Job) -> None:
    macs = {v["id"]: v["inference"]["macs"] for v in finished.results()["variants"]}
    assert macs["own-pruned"] < macs["own"] == macs["own-int8"]
    assert macs["teacher-pruned"] < macs["teacher"] == macs["teacher-int8"]
    assert variant(finished, "teacher-int8")["inference"]["weight_bits"] == 8
    files = [v["artifacts"] for v in finished.results()["variants"] if v["id"] in ("own-int8", "teacher-int8")]
    assert all(artifact["top1"] is not None for artifacts in files for artifact in artifacts)
    repair = [part["what"] for part in variant(finished, "own-pruned")["training"]["parts"]]
    assert any(what.startswith("teacher: ") for what in repair), "it is repaired with the dense network as the teacher"


@pytest.mark.slow
def test_control_of_a_pruned_own_model_has_its_macs_and_its_compute(finished: Job) -> None:
    narrow, pruned = variant(finished, "own-narrow"), variant(finished, "own-pruned")
    assert narrow["inference"]["macs"] <= pruned["inference"]["macs"]
    assert narrow["training"]["macs"] <= 1.5 * pruned["training"]["macs"]


@pytest.mark.slow
def test_stored_variant_comes_back_whole(finished: Job) -> None:
    again, pruned = variant(finished, "again"), variant(finished, "pruned")
    assert again["accuracy"]["right"] == pruned["accuracy"]["right"]
    folders = [finished.runs / "store" / v["stage_key"] for v in (again, pruned)]
    sizes = [load_variant(folder).architecture.sizes for folder in folders]
    assert sizes[0] == sizes[1] != {}
    logits = [np.load(folder / "test_logits.npy") for folder in folders]
    assert np.array_equal(*logits)


@pytest.mark.slow
def test_quantized_variant_stays_quantized_and_its_cost_is_known(finished: Job) -> None:
    quantized, int8 = variant(finished, "quantized"), variant(finished, "int8")
    for key in ("macs", "bit_operations", "bytes", "weight_bits"):
        assert quantized["inference"][key] == int8["inference"][key]
    by_method = sum(artifact.get("calibration_macs", 0) for artifact in int8["artifacts"])
    assert by_method > 0, "of ONNX Runtime's own file, which is not taken over"
    assert quantized["training"]["macs"] == int8["training"]["macs"] - by_method
    assert quantized["artifacts"][0]["integer_convs"] > 0
    recipe = finished.recipe.read_text()
    with pytest.raises(RecipeError, match=r"its variant is quantized; prune must start from a float network"):
        parse_recipe(recipe.replace("kind: prune, from: own,", "kind: prune, from: quantized,"))


@pytest.mark.slow
def test_variant_of_a_run_is_found_by_its_name(finished: Job) -> None:
    run = max((finished.runs / "tiny").iterdir())
    assert variant_folder(run / "pruned") == finished.runs / "store" / variant(finished, "pruned")["stage_key"]
    with pytest.raises(CompressError, match=r"is a run; name one of its variants, as RUN/VARIANT: teacher, .* or "):
        variant_folder(run)
    with pytest.raises(CompressError, match="did you mean 'pruned'"):
        variant_folder(run / "prunned")
    with pytest.raises(CompressError, match="neither a store entry"):
        variant_folder(finished.root)


def test_stated_preprocessing_wins_over_the_weights_own(weights: Path) -> None:
    stated = {"mean": (0.5, 0.5, 0.5), "std": (1, 1, 1), "interpolation": "bilinear", "resolution": 128}
    network = load(source="timm", model="test_resnet", checkpoint=str(weights), crop_pct=128 / 146, **stated)
    preprocess = network.preprocess
    assert (preprocess.resize, preprocess.resolution, preprocess.interpolation) == (146, 128, "bilinear")
    assert preprocess.mean == (0.5, 0.5, 0.5) and preprocess.std == (1, 1, 1)
    assert network.architecture.resolution == 128


def test_images_are_resized_from_their_originals_without_a_stated_crop(weights: Path) -> None:
    network = load(source="timm", model="test_resnet", checkpoint=str(weights))
    assert network.preprocess.resize == network.preprocess.resolution == 32
    network = load(source="timm", model="test_resnet", checkpoint=str(weights), resolution=128, resize=146)
    assert (network.preprocess.resize, network.preprocess.resolution) == (146, 128)


def test_classes_that_are_not_as_many_as_the_outputs_are_refused(weights: Path) -> None:
    with pytest.raises(CompressError, match="has 3 outputs, and `classes` names 2; correct `classes`"):
        load(source="timm", model="test_resnet", checkpoint=str(weights), classes=["red", "green"])


def test_stored_variant_is_put_into_the_order_of_the_classes(weights: Path, tmp_path: Path) -> None:
    given = load(source="timm", model="test_resnet", checkpoint=str(weights))
    (tmp_path / "stored").mkdir()
    save_variant(tmp_path / "stored", given)
    files = own_model_files(own(source="variant", model=str(tmp_path / "stored")))
    for classes, rows in ((("blue", "red", "green"), [2, 0, 1]), (("blue", "red"), [2, 0]), (CLASSES, [0, 1, 2])):
        folder = tmp_path / "-".join(classes)
        folder.mkdir()
        assert copy_for(classes, tmp_path / "stored", files, folder) == (len(classes) == 3)
        images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        network = load_variant(folder)
        assert network.architecture.classes == classes
        with torch.no_grad():
            assert torch.allclose(network.model(images), given.model(images)[:, rows], atol=1e-6)
    with pytest.raises(CompressError, match=r"trained for other classes \(red, green, blue\)"):
        copy_for(("apple", "pear", "fig"), tmp_path / "stored", files, tmp_path)


@pytest.mark.parametrize(
    ("classes", "rows"),
    [(("blue", "red"), [2, 0]), (("blue", "red", "green"), [2, 0, 1]), (("RED", "Green", "blue"), [0, 1, 2])],
)
def test_an_embedding_student_gets_a_class_list_in_the_data_s_names(
    weights: Path, tmp_path: Path, classes: tuple[str, ...], rows: list[int]
) -> None:
    """Its network is copied as it is, whether float or quantized; other spellings are the data's in every file."""
    given = load(source="timm", model="test_resnet", checkpoint=str(weights))
    listed = ClassList(CLASSES, np.eye(3, dtype=np.float32), np.arange(3, dtype=np.float32), CLASSES, ("{}",))
    embedding = given.architecture.model_copy(update={"embedding": 3})
    source, folder = tmp_path / "stored", tmp_path / "copy"
    for each in (source, folder):
        each.mkdir()
    save_variant(source, Network(given.model, embedding, listed))
    files = own_model_files(own(source="variant", model=str(source)))
    assert copy_for(classes, source, files, folder) == (len(classes) == 3)
    assert (folder / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
    kept = ClassList.read(folder)
    assert kept.names == Architecture.read(folder).classes == classes and kept.bias.tolist() == rows


def test_models_of_one_checkpoint_have_keys_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "rn50.pt").write_bytes(b"weights")
    keys = set()
    for name in ("RN50", "RN50-quickgelu"):
        model = {"source": "open_clip", "model": name, "checkpoint": f"{tmp_path}/rn50.pt"}
        plan = make_plan(parse_recipe(RECIPE % json.dumps(model)), Store(tmp_path / "store"))
        keys.add(plan.stages[0].key)
    assert len(keys) == 2


def test_identity_follows_the_content_of_files(weights: Path, tmp_path: Path) -> None:
    settings = own(source="timm", model="test_resnet", checkpoint=str(weights))
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(weights.read_bytes())
    assert own_model_id(settings) == own_model_id(settings.model_copy(update={"checkpoint": str(moved)}))
    with pytest.raises(CompressError, match=r"absent.pth not found; correct the path"):
        own_model_id(settings.model_copy(update={"checkpoint": "absent.pth"}))


def test_home_is_replaced_in_paths_of_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert onnx_file(own(source="onnx", model="~/a.onnx")) == tmp_path / "a.onnx"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "architecture.json").touch()
    assert own_model_files(own(source="variant", model="~/kept")) == [tmp_path / "kept" / "architecture.json"]


def test_only_what_timm_reads_of_a_folder_counts(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "README.md", "training.log"):
        (tmp_path / name).touch()
    settings = own(source="timm", model=f"local-dir:{tmp_path}")
    assert [path.name for path in own_model_files(settings)] == ["config.json", "model.safetensors"]
    settings = settings.model_copy(update={"checkpoint": str(tmp_path / "config.json")})
    assert {path.name for path in own_model_files(settings)} == {"config.json"}


@pytest.mark.slow
def test_network_at_chance_is_refused_unless_its_classes_are_named(finished: Job, tmp_path: Path) -> None:
    turned = load_file(finished.root / "teacher.safetensors")
    for name in ("fc.weight", "fc.bias"):
        turned[name] = turned[name].roll(1, 0).contiguous()
    save_file(turned, tmp_path / "turned.safetensors")
    data, *_ = finished.recipe.read_text().partition("stages:")
    names = finished.results()["data"]["classes"]

    def top1(more: str) -> float:
        model = f"{{source: timm, model: test_resnet, checkpoint: {tmp_path}/turned.safetensors{more}}}"
        recipe = f"{data}stages: [{{id: own, kind: model, model: {model}}}]\nmeasure: {{rounds: 5, processes: 1}}\n"
        finished_run = run(parse_recipe(recipe), tmp_path / "runs")
        assert finished_run
        return finished_run.record.variants[0].accuracy.top1

    with pytest.raises(CompressError, match=r"near chance on the test images .* set `classes` to its class names in"):
        top1("")
    assert top1(f", classes: [{names[-1]}, {', '.join(names[:-1])}]") == variant(finished, "own")["accuracy"]["top1"]


RECIPE = """\
data: cifar10-sample
stages:
  - {id: own, kind: model, model: %s}
  - {id: int8, kind: quantize, from: own}
"""


@pytest.mark.parametrize(
    ("model", "problem"),
    [
        ({"source": "timm", "model": "resnet18", "pretrained": "a1_in1k"}, "put the tag of timm or torchvision into"),
        ({"source": "variant", "model": "x", "resolution": 64}, "a stored variant has its own `resolution`; remove"),
        ({"source": "onnx", "model": "x.onnx", "checkpoint": "x.pth"}, "`source: onnx` does not take `checkpoint`"),
        ({"source": "timm", "model": "resnet18", "options": {"num_classes": 3}}, "must not set num_classes"),
        ({"source": "timm", "model": "resnet18", "crop_pct": 1.5}, "crop_pct: must be at most 1"),
        ({"source": "keras", "model": "resnet18"}, "must be"),
        ({"source": "open_clip", "model": "RN50"}, "has no weights; set `pretrained`"),
        ({"source": "open_clip", "model": "RN50", "pretrained": "openai", "classes": ["a"]}, "from the prompts of the"),
        ({"source": "timm", "model": "resnet18", "ema": True}, "`ema` chooses weights of a `checkpoint`"),
        ({"source": "timm", "model": "resnet18", "classes": ["cat", "cat"]}, "`classes` has a name twice"),
        ({"source": "timm", "model": "resnet18", "resize": 256, "crop_pct": 0.9}, "`resize` and `crop_pct` exclude"),
        ({"source": "timm", "model": "resnet18", "mean": [123.675, 116.28, 103.53]}, "must be at most 1"),
        ({"source": "timm", "model": "resnet18", "std": [0, 1, 1]}, "must be greater than 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(model: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        parse_recipe(RECIPE % json.dumps(model))
