"""The survey of a user's images, and its summary."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from own_photographs import SIX
from PIL import Image
from scaffold.folders import folder, paint, text_for

from compress.recipe import parse_recipe
from compress.scaffold import survey
from compress.scaffold.detect import detect_source
from compress.scaffold.summary import survey_lines
from compress.scaffold.survey import Survey, survey_images
from compress.utils.errors import CompressError


def surveyed(path: Path) -> tuple[Survey, str]:
    settings = detect_source(str(path))
    result = survey_images(settings)
    return result, "\n".join(survey_lines(settings, result))


def test_folder_is_counted_with_its_broken_grey_and_copied_images(six: Path) -> None:
    result, lines = surveyed(six)
    assert result.classes == tuple(sorted(SIX)) and result.looked_at == result.total
    files = [path for path in six.rglob("*") if path.is_file() and path.suffix != ".db"]
    assert sum(result.counts["train"]) + len(result.broken) == len(files)
    assert len(result.broken) == 3 and all("IMG 0009" in image.name for image in result.broken)
    assert result.grey >= 6 and result.copies == 6 and result.contradictions == result.leaks.total == 0
    assert "6 classes" in lines and "20% of them held out for test" in lines and "Kätzchen & co 15" in lines
    assert "skipping 3 unreadable images, e.g. " in lines
    assert "6 images are byte-for-byte copies of others; the test split keeps copies together" in lines


def test_copies_under_several_classes_are_reported(tmp_path: Path) -> None:
    folder(tmp_path, cat=24, dog=4)
    shutil.copy(tmp_path / "cat" / "0.png", tmp_path / "dog" / "cat.png")
    paint(tmp_path / "dog" / "grey.png", 77, grey=True)
    result, lines = surveyed(tmp_path)
    assert (result.copies, result.contradictions, result.grey) == (1, 2, 1)
    assert "2 of them are in several classes, so some labels are wrong" in lines
    assert "imbalanced" not in lines


def test_imbalanced_classes_are_reported(tmp_path: Path) -> None:
    _, lines = surveyed(folder(tmp_path, cat=36, dog=6))
    assert "warning: classes are imbalanced, 6 to 1; the recipe compares balanced accuracy (`worth.metric`)" in lines


def test_train_images_in_the_test_split_are_reported(tmp_path: Path) -> None:
    for part, count in (("train", 5), ("test", 3)):
        folder(tmp_path / part, cat=count, dog=count)  # the same seeds, so the same images
    result, lines = surveyed(tmp_path)
    assert detect_source(str(tmp_path)).test is None and (result.leaks.test, result.leaks.validation) == (6, 0)
    pair = "test/cat/0.png and train/cat/0.png"
    assert f"6 test images are also in another split, e.g. {pair}: `run` refuses this; remove them" in lines
    text = text_for(tmp_path)
    assert f"\n# `run` refuses 6 test images that are also in another split, e.g. {pair}.\n" in text
    assert parse_recipe(text).allow == []
    assert parse_recipe(text.replace("# allow: [overlap]", "allow: [overlap]")).allow == ["overlap"]


def test_train_images_in_the_validation_split_are_refused_by_nothing(tmp_path: Path) -> None:
    folder(tmp_path / "train", cat=5, dog=5)
    folder(tmp_path / "val", cat=1, dog=1)
    for number in range(3):
        for name in ("cat", "dog"):
            paint(tmp_path / "test" / name / f"{number}.png", 9000 + 10 * number + len(name) * (name == "dog"))
    result, lines = surveyed(tmp_path)
    assert (result.leaks.test, result.leaks.validation, result.leaks.first) == (0, 2, None)
    assert "2 validation images are also trained on, so checkpoint selection is biased" in lines
    assert "allow" not in text_for(tmp_path)


def test_evenly_spaced_images_of_a_large_source_are_inspected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MAX_IMAGES", 10)
    result, lines = surveyed(folder(tmp_path, cat=18, dog=9))
    assert result.looked_at == 9 and result.counts["train"] == [18, 9]
    assert "inspected 9 of 27 images" in lines
    text = text_for(tmp_path)
    assert "  # broken: skip # only 9 of 27 images were inspected; an unreadable one among the others stops" in text
    monkeypatch.setattr(survey, "MAX_IMAGES", 27)
    assert "broken" not in text_for(tmp_path)


def spoil(name: str, root: Path) -> Path:
    if name == "one class":
        return folder(root, cat=5)
    if name == "loose":
        for number in range(3):
            paint(root / f"{number}.png", number)
    if name == "two images":
        return folder(root, cat=8, dog=2)
    if name == "three, one broken":
        folder(root, cat=8, dog=3)
        (root / "dog" / "1.png").write_bytes(b"")
    if name == "all broken":
        for file in folder(root, cat=3, dog=3).rglob("*.png"):
            file.write_bytes(b"")
    return root


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("one class", r"class.*\bcat\b"),
        ("loose", "folder.* two .*class"),
        ("two images", r"dog \(1\)"),
        ("three, one broken", r"dog \(1\)"),
        ("all broken", "cannot read any image, e.g. cat/0.png"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(CompressError, match=message) as caught:
        surveyed(spoil(name, tmp_path / "x"))
    assert "\n" not in str(caught.value)


def test_three_images_of_a_class_are_enough(tmp_path: Path) -> None:
    surveyed(folder(tmp_path, cat=9, dog=3))


def test_images_of_more_pixels_than_usual_are_read_by_a_limit_in_the_recipe(tmp_path: Path) -> None:
    root = folder(tmp_path / "x", cat=9, dog=9)
    for name in ("cat", "dog"):
        Image.new("RGB", (15_000, 12_000), (200, 30, 30)).save(root / name / "big.jpg", quality=30)
    before = Image.MAX_IMAGE_PIXELS
    result, lines = surveyed(root)
    assert not result.broken and (result.large, result.max_pixels) == (2, 180_000_000)
    assert "2 images have more than 178,956,970 pixels; the recipe's `max_pixels` admits them" in lines
    text = text_for(root)
    assert "broken: skip" not in text and parse_recipe(text).data.max_pixels == 180_000_000  # type: ignore[attr-defined]
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_class_that_validation_lacks_is_said(tmp_path: Path) -> None:
    for part, counts in (("train", (5, 5, 5)), ("val", (2, 0, 2)), ("test", (2, 2, 2))):
        folder(tmp_path / "x" / part, a=counts[0], b=counts[1], c=counts[2])
    result, lines = surveyed(tmp_path / "x")
    assert result.counts["validation"] == [2, 0, 2]
    assert "warning: no validation image of b: checkpoint selection ignores it; add some, or remove" in lines
