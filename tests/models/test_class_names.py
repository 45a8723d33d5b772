"""Teachers and students whose classes are in another order are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from compress.data.sample import SampleData
from compress.models.class_names import check_order, read_class_names
from compress.models.factory import create_model
from compress.models.teachers import LoadedTeacher, load_teacher
from compress.recipe.models import ClassifierTeacher
from compress.utils.errors import CompressError, UsageError

DATA = ("cat", "dog", "fox")
OTHER = ("dog", "cat", "fox")


def teacher(**settings: object) -> LoadedTeacher:
    section = ClassifierTeacher(source="timm", model="test_resnet", **settings)  # type: ignore[arg-type]
    return load_teacher(section, SampleData(source="cifar10-sample"), DATA, 32)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """As a stage leaves them, without a word about the classes."""
    save_file(create_model("timm", "test_resnet", 3, 32).state_dict(), tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_class_names_are_read_from_architecture_json(weights: Path) -> None:
    assert read_class_names(weights) is None
    for text, found in (
        (json.dumps({"classes": OTHER}), OTHER),
        ('{"classes": [1, 2]}', None),
        ('{"classes": "cat"}', None),
        ("[1]", None),
        ("{", None),
    ):
        (weights.parent / "architecture.json").write_text(text)
        assert read_class_names(weights) == found, text


def test_class_names_are_read_from_the_metadata_of_the_file(tmp_path: Path) -> None:
    tensors = create_model("timm", "test_resnet", 3, 32).state_dict()
    save_file(tensors, tmp_path / "own.safetensors", {"classes": json.dumps(OTHER)})
    assert read_class_names(tmp_path / "own.safetensors") == OTHER
    (tmp_path / "damaged.safetensors").write_bytes(b"\xff" * 20)
    assert read_class_names(tmp_path / "damaged.safetensors") is None
    with pytest.raises(CompressError, match=r"test_resnet has the classes in another order: its output 0 is 'dog'"):
        teacher(checkpoint=str(tmp_path / "own.safetensors"))


def test_class_names_in_the_recipe_are_checked(weights: Path) -> None:
    path = str(weights)
    teacher(checkpoint=path)
    teacher(checkpoint=path, classes=list(DATA))
    with pytest.raises(CompressError, match="another order"):
        teacher(checkpoint=path, classes=list(OTHER))
    with pytest.raises(CompressError, match=r"other classes \(cat, dog, wolf\) than the data's \(cat, dog, fox\)"):
        teacher(checkpoint=path, classes=["cat", "dog", "wolf"])


def test_a_student_may_start_from_other_classes_but_not_from_another_order() -> None:
    check_order((), DATA, "it")
    check_order(("wolf", "owl"), DATA, "it")
    with pytest.raises(CompressError, match="it has the classes in another order"):
        check_order(OTHER, DATA, "it")


@pytest.mark.parametrize(
    ("source", "model", "words"), [("timm", "resnet18", "1000 classes"), ("torchvision", "resnet18", "tench")]
)
def test_published_weights_for_other_classes_teach_nothing(source: str, model: str, words: str) -> None:
    section = ClassifierTeacher(source=source, model=model, pretrained=True)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=rf"{words}.*the data has 3 \(cat, dog, fox\): its head would be random"):
        load_teacher(section, SampleData(source="cifar10-sample"), DATA, 32)
