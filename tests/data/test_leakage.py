"""Images in two splits, classes that splits lack, and labels of no class."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from compress.data.leakage import Overlap, find_overlaps, overlap_remarks, refuse_test_overlap
from compress.data.prepared import ImageData, prepare
from compress.data.source import Part, Raw
from compress.data.splits import split_parts
from compress.pipeline.preflight import check_data
from compress.recipe import parse_recipe
from compress.recipe.data import DataSection
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError


def recipe(photos: Path, **top: Any) -> Any:
    words = "".join(f"{key}: {value}\n" for key, value in top.items())
    stages = "stages: [{id: s, kind: train, student: resnet18}]\n"
    return parse_recipe(f"data: {{source: image-folder, path: {photos}, resolution: 16}}\n{stages}{words}")


def checked(given: Any, store: Store) -> list[str]:
    return check_data(given, prepare(given.data, store, given.seed), store)


def test_without_any(photos: Path, store: Store) -> None:
    assert checked(recipe(photos), store) == []


def test_nothing_to_calibrate_on_is_said_before_anything_is_trained(photos: Path, store: Store) -> None:
    shutil.rmtree(photos / "unlabeled")
    stage = "{id: int8, kind: quantize, from: s, calibrate_on: unlabeled}"
    given = recipe(photos).model_dump(by_alias=True, exclude_unset=True)
    text = f"stages: [{{id: s, kind: train, student: resnet18}}, {stage}]\n"
    with pytest.raises(UsageError, match="stage int8: no calibration images in unlabeled"):
        checked(parse_recipe(text + yaml.safe_dump({"data": given["data"]})), store)


def test_a_train_image_in_test_is_refused_unless_it_is_allowed(photos: Path, store: Store) -> None:
    shutil.copy(photos / "train" / "dog" / "04.png", photos / "test" / "dog" / "other name.png")
    pair = r"test/dog/other name.png \(dog\) and train/dog/04.png"
    said = f"1 of the 7 test images is in (train|validation) too, .* the first is {pair};"
    with pytest.raises(UsageError, match=said + r".*allow: \[overlap\]"):
        checked(recipe(photos), store)
    (remark,) = checked(recipe(photos, allow="[overlap]"), store)
    assert "too: the accuracy there is too high by an unknown amount" in remark


def test_an_unlabelled_test_image_is_refused_too(photos: Path, store: Store) -> None:
    shutil.copy(photos / "test" / "cat" / "00.png", photos / "unlabeled" / "it.png")
    with pytest.raises(UsageError, match="1 of the 6 test images is in unlabeled too"):
        checked(recipe(photos), store)


def test_an_unlabelled_image_of_a_held_out_test_class_is_refused_too(
    photos: Path, paint: Callable[..., Path], store: Store
) -> None:
    for number in range(3):
        paint(photos / "train" / "fox" / f"{number}.png", 200 + number)
        paint(photos / "test" / "fox" / f"{number}.png", 300 + number)
    shutil.copy(photos / "test" / "fox" / "1.png", photos / "unlabeled" / "it.png")
    data = recipe(photos).data.model_copy(update={"held_out": ["fox"]})
    given = recipe(photos).model_copy(update={"data": data})
    said = (
        r"1 of the 3 held-out test images is in unlabeled too, so accuracy on held-out test .* test/fox/1.png \(fox\)"
    )
    with pytest.raises(UsageError, match=said):
        checked(given, store)
    allowed = checked(given.model_copy(update={"allow": ["overlap"]}), store)
    assert "1 of the 3 held-out test images is in unlabeled too: the accuracy there is too high" in allowed[-1]
    prepared = prepare(given.data, store, 0)
    assert prepared.held_out is not None
    empty = replace(prepared, held_out=replace(prepared.held_out, images=prepared.held_out.images[:0]))
    with pytest.raises(UsageError, match=r"data\.held_out: no test image of fox; add some to the test split"):
        check_data(given, empty, store)


def test_a_validation_image_in_train_is_said(photos: Path, store: Store) -> None:
    for name in ("cat", "dog"):
        (photos / "val" / name).mkdir(parents=True)
        for number in (3, 4):
            shutil.copy(photos / "train" / name / f"{number:02}.png", photos / "val" / name)
    settings = recipe(photos).data
    found = find_overlaps(data := prepare(settings, store, 0), store)
    assert found == [Overlap("validation", "train", 4, (0, 3))]
    refuse_test_overlap(found, data)
    assert overlap_remarks(found, data) == [
        "4 of the 4 validation images are in train too: selection on validation was partly on images that were trained "
        "on."
    ]


def test_it_is_looked_for_once(photos: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = prepare(recipe(photos).data, store, 0)
    find_overlaps(data, store)
    monkeypatch.setattr("compress.data.leakage._shared", None)
    assert find_overlaps(data, store) == []


def without(data: ImageData, split: str, label: int) -> ImageData:
    """Data in which no image of a split has a label."""
    part = getattr(data, split)
    keep = np.asarray(part.labels) != label
    return replace(data, **{split: replace(part, images=part.images[keep], labels=part.labels[keep])})


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("train", "no train images of class dog; add some"),
        ("validation", "validation has fewer than two classes"),
        ("test", "test has fewer than two classes"),
    ],
)
def test_a_split_that_a_missing_class_makes_useless(photos: Path, store: Store, split: str, words: str) -> None:
    given = recipe(photos)
    with pytest.raises(UsageError, match=words):
        check_data(given, without(prepare(given.data, store, 0), split, 1), store)


def test_a_class_that_test_lacks_is_said(photos: Path, paint: Callable[..., Path], store: Store) -> None:
    for number in range(4):
        paint(photos / "train" / "fox" / f"{number}.png", 200 + number)
    paint(photos / "test" / "fox" / "0.png", 300)
    given = recipe(photos)
    (remark,) = check_data(given, without(prepare(given.data, store, 0), "test", 2), store)
    assert remark.startswith("No test image has the class fox: the accuracy does not cover it")


def test_top5_of_few_classes_is_refused_before_anything_is_trained(photos: Path, store: Store) -> None:
    with pytest.raises(UsageError, match=r"worth.metric: top5 needs at least 20 classes, and .* has 2; set it to top1"):
        checked(recipe(photos, worth="{metric: top5}"), store)
    assert checked(recipe(photos, worth="{metric: balanced}"), store) == []


@pytest.mark.parametrize("part", ["train", "validation", "test"])
@pytest.mark.parametrize("wrong", [3, -1, 2**40])
def test_labels_of_no_class(part: str, wrong: int) -> None:
    parts = {name: Part(np.zeros((6, 3, 2, 2), np.uint8), np.arange(6) % 3) for name in ("train", "validation", "test")}
    labels = parts[part].labels
    assert labels is not None
    labels[4] = wrong
    with pytest.raises(CompressError, match=rf"image 4 of {part} has the label {wrong}, and the classes are 0 to 2"):
        split_parts(Raw(("a", "b", "c"), **parts), DataSection(source="any"), 0)


def test_fewer_labels_than_images() -> None:
    whole = Part(np.zeros((6, 3, 2, 2), np.uint8), np.arange(6) % 3)
    with pytest.raises(CompressError, match=r"test has 6 images and labels of shape \[5\]"):
        split_parts(Raw(("a", "b", "c"), whole, Part(whole.images, np.arange(5) % 3)), DataSection(source="any"), 0)
