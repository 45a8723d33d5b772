"""Outputs are matched to the data's classes by name, and published weights by ImageNet's ids."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from compress.data.sample import SampleData
from compress.models.checkpoint_metadata import stored_preprocess
from compress.models.class_names import chance_warning, output_rows, published_classes
from compress.models.factory import create_model
from compress.models.fingerprint import embedding_id
from compress.models.heads import select_outputs
from compress.models.onnx_rewrite import stated_names
from compress.models.published import published_model
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.models import ClassifierTeacher, OpenClipTeacher, OwnModel
from compress.results import Accuracy
from compress.utils.errors import CompressError, UsageError

DATA = ("cat", "dog", "fox")
OTHER = ("dog", "cat", "fox")
TENCH, GOLDFISH, SHARK = "n01440764", "n01443537", "n01484850"


def teacher(**settings: object) -> LoadedTeacher:
    section = ClassifierTeacher(source="timm", model="test_resnet", **settings)  # type: ignore[arg-type]
    return load_teacher(section, SampleData(source="cifar10-sample"), DATA, 32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """As a stage leaves them, without a word about the classes."""
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def logits(loaded: LoadedTeacher) -> torch.Tensor:
    with torch.no_grad():
        return loaded.classifier()(torch.ones(1, 3, 32, 32))


@pytest.mark.parametrize("where", ["recipe", "architecture.json", "metadata"])
def test_a_teachers_outputs_are_put_in_the_datas_order(weights: Path, where: str, tmp_path: Path) -> None:
    path, settings = weights, {}
    plain = logits(teacher(checkpoint=str(path)))
    if where == "recipe":
        settings = {"classes": list(OTHER)}
    elif where == "architecture.json":
        (weights.parent / "architecture.json").write_text(json.dumps({"classes": OTHER}))
    else:
        path = tmp_path / "own.safetensors"
        save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), path)
        plain = logits(teacher(checkpoint=str(path)))
        from safetensors.torch import load_file

        save_file(load_file(path), path, {"classes": json.dumps(OTHER)})
    loaded = teacher(checkpoint=str(path), **settings)
    assert torch.allclose(logits(loaded), plain[:, [1, 0, 2]], atol=1e-6)
    assert loaded.notes == ("outputs put in the data's order by class name",)


def test_a_teacher_for_other_classes_is_refused(weights: Path) -> None:
    with pytest.raises(CompressError, match=r"other classes \(cat, dog, wolf\) than the data's \(cat, dog, fox\)"):
        teacher(checkpoint=str(weights), classes=["cat", "dog", "wolf"])


def test_fingerprints_follow_classes_ema_and_the_files_that_describe_weights(weights: Path) -> None:
    plain = ClassifierTeacher(source="timm", model="test_resnet", checkpoint=str(weights))
    seen = [embedding_id(plain)]
    seen += [embedding_id(plain.model_copy(update=change)) for change in ({"classes": list(OTHER)}, {"ema": False})]
    (weights.parent / "config.json").write_text("{}")
    seen.append(embedding_id(plain))
    assert all(one != other for at, one in enumerate(seen) for other in seen[:at])


def test_damaged_files_beside_the_weights_name_no_classes(weights: Path) -> None:
    for text in ('{"classes": [1, 2]}', '{"classes": "cat"}', "[1]", "{"):
        (weights.parent / "architecture.json").write_text(text)
        assert teacher(checkpoint=str(weights)).notes == ()


@pytest.mark.parametrize(
    ("own", "data", "rows"),
    [
        (OTHER, DATA, [1, 0, 2]),
        (OTHER, ("fox",), [2]),
        (("Great White Shark", "cafe\u0301"), ("café", "great_white-shark"), [1, 0]),
        (("cat", "Cat"), ("Cat", "cat"), [1, 0]),
        (("cat", "Cat"), ("CAT",), None),
        (("cat",), ("cat", "Cat"), None),
        (DATA, ("wolf",), None),
    ],
)
def test_classes_are_matched_by_name(own: tuple[str, ...], data: tuple[str, ...], rows: list[int] | None) -> None:
    assert output_rows(own, data) == rows


@pytest.mark.parametrize(("source", "model"), [("timm", "resnet18"), ("torchvision", "resnet18")])
def test_published_weights_for_other_classes_teach_nothing(source: str, model: str) -> None:
    section = ClassifierTeacher(source=source, model=model, pretrained=True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"tench.*the data has 3 \(cat, dog, fox\): its head would be random"):
        load_teacher(section, SampleData(source="cifar10-sample"), DATA, 32)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_imagenet_is_known_by_id_name_and_index_in_both_libraries(library: str) -> None:
    for data, rows in (
        ((SHARK, TENCH), [2, 0]),
        (("great white shark", "tench"), [2, 0]),
        (("Great_White_Shark",), [2]),
        (tuple(sorted(map(str, range(1000)))), [int(name) for name in sorted(map(str, range(1000)))]),
    ):
        names = published_classes(library, "resnet18", data)
        assert names and output_rows(names, data) == rows
    for data in (("0", "1"), (TENCH, "n99999999")):
        with pytest.raises(UsageError, match="its head would be random"):
            published_classes(library, "resnet18", data)


def test_weights_of_unknown_names_are_taken_for_as_many_classes() -> None:
    assert published_classes("timm", "no_such_model", DATA) is None


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_published_weights_give_the_outputs_of_synset_folders(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = create_model(library, "resnet18", 1000, 32).eval()
    asked: list[int] = []

    def create(library: str, name: str, classes: int, *_: object, **__: object) -> nn.Module:
        asked.append(classes)
        return whole

    monkeypatch.setattr("compress.models.published.create_model", create)
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = whole(images)
        model, notes = published_model(library, "resnet18", (GOLDFISH, SHARK, TENCH), 32)
        assert torch.allclose(model(images), expected[:, [1, 2, 0]], atol=1e-6)
    assert asked == [1000] and notes == ("outputs put in the data's order by class name; 3 of 1000 are kept",)


def test_outputs_of_convolutional_and_double_heads_can_be_selected() -> None:
    for library, name, side in (("torchvision", "squeezenet1_1", 64), ("timm", "levit_128s", 224)):
        model = create_model(library, name, 5, side).eval()
        images = torch.randn(1, 3, side, side)
        with torch.no_grad():
            expected = model(images)[:, [3, 1]]
            select_outputs(model, [3, 1])
            assert torch.allclose(model(images), expected, atol=1e-5)
        assert model.num_classes == 2


def accuracy(correct: int, n: int, low: float) -> Accuracy:
    return Accuracy(top1=correct / n, correct=correct, n=n, ci95=(low, 1.0), split="validation")


def test_accuracy_near_chance_is_a_warning_with_the_likely_cause() -> None:
    own, low = OwnModel.model_fields, accuracy(32, 100, 0.23)
    assert chance_warning("it", accuracy(90, 100, 0.82), 0.3, DATA, own) is None
    warning = chance_warning("it", low, 0.3, DATA, own)
    assert warning and "it has 32.0% on validation (32 of 100), not shown to be above chance (30.0%)" in warning
    assert "set `classes` to its classes in the order of its outputs" in warning and "sort" not in warning
    assert warning.endswith("check `mean`, `std` and `resolution`")
    numbers = chance_warning("it", low, 0.3, ("0", "2", "10"), own)
    assert numbers and "numbers are in numerical order here (0, 2, 10), often sorted as text" in numbers


def test_accuracy_near_chance_names_no_setting_that_the_network_lacks() -> None:
    low = accuracy(32, 100, 0.23)
    classifier = chance_warning("it", low, 0.3, DATA, ClassifierTeacher.model_fields)
    assert classifier and classifier.endswith(
        "takes another resolution: set `classes` to its classes in the order of its outputs, and check `resolution`"
    )
    zero_shot = chance_warning("it", low, 0.3, DATA, OpenClipTeacher.model_fields)
    assert zero_shot and zero_shot.endswith(
        "likely its prompts do not describe the classes: check `prompts` and `templates` of `data`"
    )


def test_labels_of_a_timm_folder_name_its_outputs(tmp_path: Path) -> None:
    network = create_model("timm", "test_resnet", 3, 32).eval()
    cfg = {"num_classes": 3, "input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
    content = {"architecture": "test_resnet", "num_classes": 3, "label_names": list(OTHER), "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(content))
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    assert published_classes("timm", f"local-dir:{tmp_path}", DATA) == OTHER
    loaded, _ = published_model("timm", f"local-dir:{tmp_path}", DATA, 32)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(images), network(images)[:, [1, 0, 2]], atol=1e-6)
    with pytest.raises(UsageError, match=r"trained for other classes \(dog, cat, fox\).*\(cat, dog, wolf\)"):
        published_model("timm", f"local-dir:{tmp_path}", ("cat", "dog", "wolf"), 32)


@pytest.mark.parametrize("quoted", [True, False])
def test_numbered_names_of_an_onnx_file_are_in_numeric_order(quoted: bool) -> None:
    from onnx import ModelProto

    names = {(str(n) if quoted else n): f"c{n}" for n in range(12)}
    proto = ModelProto()
    proto.metadata_props.add(key="names", value=str(names))
    assert stated_names(proto) == tuple(f"c{n}" for n in range(12))


def test_normalisation_on_the_scale_0_to_255_is_read_on_that_of_0_to_1() -> None:
    stored = stored_preprocess([{"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}])
    assert stored.mean == pytest.approx((0.485, 0.456, 0.406)) and stored.std == pytest.approx((0.229, 0.224, 0.225))
