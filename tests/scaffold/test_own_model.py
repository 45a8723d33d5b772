"""An own trained model is recognised from its file, and gets a recipe without training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
import yaml
from safetensors.torch import save_file
from scaffold.folders import LAPTOP, folder
from support import typed

from compress.data.preprocess import Preprocess
from compress.models.catalog import catalog
from compress.recipe import parse_recipe
from compress.scaffold import own_model
from compress.scaffold.choices import choose
from compress.scaffold.detect import detect_source
from compress.scaffold.own_model import COMMON, USUAL, OwnWeights, recognise, require_classes
from compress.scaffold.recipe import _crop_share, recipe_text
from compress.scaffold.survey import survey_images
from compress.utils.errors import CompressError, UsageError

FEW = {"torchvision": ("mobilenet_v3_small", "resnet18", "resnet50"), "timm": ("resnet18", "efficientnet_b0")}
PAIR = ("efficientnet_b0", "tf_efficientnet_b0")  # the same weights, with other padding


def saved(path: Path, model: torch.nn.Module) -> Path:
    torch.save(model.state_dict(), path)
    return path


def test_common_architectures_exist() -> None:
    for library, names in COMMON.items():
        known = catalog(library)
        assert known and set(names) <= set(known.tags)


def test_the_architecture_follows_from_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_model, "COMMON", FEW)
    own = recognise(saved(tmp_path / "best.pth", torchvision.models.resnet18(num_classes=3)), None)
    assert (own.library, own.model, own.outputs, own.classes) == ("torchvision", "resnet18", 3, None)
    assert own.preprocess == USUAL and own.stored == ()
    timms = recognise(saved(tmp_path / "t.pt", timm.create_model("efficientnet_b0", num_classes=4)), None)
    assert (timms.library, timms.model, timms.outputs) == ("timm", "efficientnet_b0", 4)
    assert timms.preprocess.interpolation == "bicubic", "timm's own configuration"
    with pytest.raises(UsageError, match=r"not the weights of a common architecture \(\d+ tensors: .*--arch resnet50"):
        recognise(saved(tmp_path / "vgg.pth", torchvision.models.vgg11(num_classes=2)), None)


def test_equal_weights_of_different_networks_need_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_model, "COMMON", {"timm": PAIR})
    path = saved(tmp_path / "best.pth", timm.create_model(PAIR[0], num_classes=3))
    with pytest.raises(
        UsageError, match=r"the weights of timm/efficientnet_b0 or timm/tf_efficientnet_b0; name it, e.g"
    ):
        recognise(path, None)
    assert recognise(path, PAIR[1]).model == PAIR[1]


def test_a_named_architecture_is_checked(tmp_path: Path) -> None:
    path = saved(tmp_path / "best.pth", timm.create_model("test_resnet", num_classes=3))
    assert recognise(path, "timm/test_resnet").outputs == recognise(path, "test_resnet").outputs == 3
    with pytest.raises(CompressError, match="is a checkpoint of another architecture"):
        recognise(path, "resnet18")
    with pytest.raises(UsageError, match=r"torchvision has no model 'resnet50x'.*timm has no model 'resnet50x'"):
        recognise(path, "resnet50x")
    with pytest.raises(UsageError, match="unknown library 'keras'; write timm/NAME or torchvision/NAME"):
        recognise(path, "keras/resnet50")


def test_what_the_file_states_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    stated = {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1], "input_size": [3, 128, 128], "resize_size": 146}
    about = {"classes": ["cat", "dog", "bird"], **stated}
    weights = timm.create_model("test_resnet", num_classes=3).state_dict()
    save_file(weights, path, {key: json.dumps(value) for key, value in about.items()})
    own = recognise(path, "test_resnet")
    assert own.classes == ("cat", "dog", "bird")
    assert replace(own.preprocess, interpolation="bicubic") == Preprocess(
        128, (0.1, 0.2, 0.3), (0.3, 0.2, 0.1), "bicubic", 146
    )
    assert own.stored == ("resolution", "crop_pct", "mean", "std")
    require_classes(own, ("bird", "cat", "dog"))
    with pytest.raises(UsageError, match="classifies cat, dog, bird, the images are of cat, cow; give images of"):
        require_classes(own, ("cat", "cow"))
    unnamed = replace(own, classes=None)
    require_classes(unnamed, ("a", "b", "c"))
    with pytest.raises(UsageError, match=r"has 3 outputs, and the images are of 2 classes \(a, b\)"):
        require_classes(unnamed, ("a", "b"))


@pytest.mark.parametrize(("side", "resize"), [(224, 256), (128, 146), (224, 224), (299, 342), (64, 73), (512, 537)])
def test_the_resize_follows_from_the_crop_in_the_recipe(side: int, resize: int) -> None:
    share = _crop_share(Preprocess(side, USUAL.mean, USUAL.std, "bilinear", resize))
    assert int(side / share) == resize and 0 < share <= 1


def own_recipe(tmp_path: Path, **changes: Any) -> str:
    own = OwnWeights(tmp_path / "my best.pth", "timm", "test_resnet", 2, None, USUAL, (), ())
    settings = detect_source(str(folder(tmp_path / "photos", cat=8, dog=8)))
    survey = survey_images(settings)
    own = replace(own, **changes)
    return recipe_text(settings, survey, LAPTOP, choose(survey, LAPTOP, own), own)


def test_the_recipe_of_an_own_model_trains_nothing(tmp_path: Path) -> None:
    text = own_recipe(tmp_path)
    recipe, values = parse_recipe(text), yaml.safe_load(text)
    assert [(stage.id, stage.kind) for stage in recipe.stages] == [
        ("mine", "model"),
        ("int8", "quantize"),
        ("files", "export"),
    ]
    assert values["stages"][0]["model"] == {
        "source": "timm",
        "model": "test_resnet",
        "checkpoint": str(tmp_path / "my best.pth"),
        "resolution": 224,
        "crop_pct": 0.875,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "interpolation": "bilinear",
    }
    assert values["worth"]["references"] == ["mine"] and values["data"]["resolution"] == 224
    assert text.count("the usual value: the file states none") == 5 and "# classes: [cat, dog] #" in text
    assert "has your model seen these images?" in text
    stated = own_recipe(tmp_path, classes=("cat", "dog"), stored=("resolution", "crop_pct", "mean", "std"))
    assert stated.count("the usual value") == 1 and "# classes" not in stated


def test_init_recognises_a_model_and_mentions_one_that_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compress.cli.init.MAX_TIMED", 0)
    folder(tmp_path / "photos", cat=8, dog=8)
    saved(tmp_path / "my best.pth", timm.create_model("test_resnet", num_classes=2))
    offline = {"cwd": tmp_path, "HF_HUB_OFFLINE": "1"}
    done = typed("init", "photos", **offline)
    assert done.returncode == 0, done.stderr
    assert "compress-model init photos --model 'my best.pth' --output recipe.yaml" in done.stdout
    done = typed("init", "photos", "--model", "my best.pth", "--arch", "test_resnet", "--force", **offline)
    assert done.returncode == 0, done.stderr
    assert "model: timm/test_resnet with 2 outputs; pixels: Resize(" in done.stdout
    assert "recipe.yaml: model -> quantize -> export" in done.stdout and "no training" in done.stdout
    assert parse_recipe((tmp_path / "recipe.yaml").read_text()).stages[0].kind == "model"
    done = typed("init", "photos", "--arch", "resnet18", "--force", **offline)
    assert done.returncode == 2 and "--arch resnet18 is the architecture of --model; add --model FILE" in done.stderr
