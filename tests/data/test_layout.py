"""Which folders of a tree are splits and which are classes, as people name and nest them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from compress.data.folder import FolderData
from compress.data.listing import Listing, list_images
from compress.data.names import order_classes
from compress.data.prepared import prepare
from compress.data.tree import Tree, find_images
from compress.pipeline.preflight import check_data
from compress.recipe import parse_recipe
from compress.store.store import Store
from compress.utils.errors import UsageError

Paint = Callable[..., Path]


def grow(
    paint: Paint, root: Path, folders: Sequence[str], classes: Sequence[str] = ("cat", "dog"), count: int = 2
) -> Path:
    """Write images of each class below each folder."""
    for place, folder in enumerate(folders):
        for row, name in enumerate(classes):
            for number in range(count):
                paint(root / folder / name / f"{number}.png", 100 * place + 10 * row + number)
    return root


def counts(tree: Tree) -> dict[str, int]:
    return {part: len(files) for part, (files, _) in tree.parts.items()}


def refused(root: Path) -> str:
    with pytest.raises(UsageError) as caught:
        find_images(root, without_test=True)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (["Training", "Testing"], ["train", "test"]),
        (["TRAIN", "Test"], ["train", "test"]),
        (["train", "valid", "test"], ["train", "validation", "test"]),
        (["train", "dev", "test"], ["train", "validation", "test"]),
        (["Train", "Validation"], ["train", "validation"]),
        (["seg_train", "seg_test"], ["train", "test"]),
        (["train-images", "val-images", "test-images"], ["train", "validation", "test"]),
        (["train", "test_set"], ["train", "test"]),
        (["seg_train/seg_train", "seg_test/seg_test"], ["train", "test"]),
        (["train/train", "test"], ["train", "test"]),
        (["train_images"], ["train"]),
        (["trainset", "testset"], ["train", "test"]),
        (["TrainSet", "ValSet", "TestSet"], ["train", "validation", "test"]),
        (["TRAINDATA", "TESTDATA"], ["train", "test"]),
        (["TrainImages", "TestImages"], ["train", "test"]),
        (["trainImgs", "imgsVal"], ["train", "validation"]),
        (["imagesTr", "imagesTs"], ["train", "test"]),
        (["train2017", "val2017"], ["train", "validation"]),
        (["train", "valset"], ["train", "validation"]),
    ],
)
def test_split_folders_are_known_by_every_usual_name(
    paint: Paint, tmp_path: Path, folders: list[str], parts: list[str]
) -> None:
    tree = find_images(grow(paint, tmp_path / "x", folders), without_test=True)
    assert tree.classes == ("cat", "dog") and counts(tree) == dict.fromkeys(parts, 4)
    assert not tree.left_out and not tree.notes


@pytest.mark.parametrize("name", ["unlabeled", "Unlabelled", "unsupervised"])
def test_unlabelled_images_are_known_by_every_usual_name(paint: Paint, tmp_path: Path, name: str) -> None:
    paint(tmp_path / "x" / name / "0.png")
    assert counts(find_images(grow(paint, tmp_path / "x", ["train", "test"]))) == {
        "train": 4,
        "test": 4,
        "unlabeled": 1,
    }


@pytest.mark.parametrize("names", [("val", "validation"), ("val", "valid"), ("test", "Testing"), ("train", "Train")])
def test_two_folders_of_one_split_are_refused(paint: Paint, tmp_path: Path, names: tuple[str, str]) -> None:
    root = grow(paint, tmp_path / "x", list(dict.fromkeys(("train", *names))))
    assert f"has both {' and '.join(sorted(f'{name}/' for name in names))}; remove one" in refused(root)


def test_a_folder_beside_the_splits_is_named(paint: Paint, tmp_path: Path) -> None:
    root = grow(paint, tmp_path / "x", ["train", "test"])
    paint(root / "pred" / "0.png")
    paint(root / "loose.png")
    rows = find_images(root).left_out
    assert [(row.kind, row.reason, row.count, row.first) for row in rows] == [
        ("file", ".png", 1, "loose.png"),
        ("folder", "pred: not a split", 1, "pred"),
    ]


@pytest.mark.parametrize(
    ("wrapper", "folders"), [("wrap/dataset", ["train", "test"]), ("a/b/c", ["."]), ("photos", ["train", "val"])]
)
def test_the_folder_inside_of_wrappers_is_suggested(
    paint: Paint, tmp_path: Path, wrapper: str, folders: list[str]
) -> None:
    root = tmp_path / "x"
    grow(paint, root / wrapper, folders)
    (root / "__MACOSX" / "y").mkdir(parents=True)
    assert f"did you mean {root / wrapper}?" in refused(root)
    with pytest.raises(UsageError, match=f"did you mean {root / wrapper}"):
        find_images(root)


def test_folds_are_not_classes(paint: Paint, tmp_path: Path) -> None:
    line = refused(grow(paint, tmp_path / "x", ["fold0", "fold1", "fold2"]))
    assert "fold0, fold1, fold2 have the same sub-folders (cat, dog): these are splits, not classes" in line


@pytest.mark.parametrize("names", [["birdstrain", "birdstest"], ["Trainval", "Latest"]])
def test_folders_like_splits_with_the_same_sub_folders_are_refused(
    paint: Paint, tmp_path: Path, names: list[str]
) -> None:
    line = refused(grow(paint, tmp_path / "x", names))
    assert "have the same sub-folders (cat, dog): these are splits, not classes" in line and "classes, rename " in line


@pytest.mark.parametrize(
    ("names", "inside"),
    [
        (["trainer", "tester", "evaluation_form"], ["."]),
        (["trainer", "tester", "valley"], ["day", "night"]),
        (["train_station", "bus_stop"], ["."]),
        (["trainset", "bus"], ["."]),
        (["contest", "latest"], ["all"]),
        (["tr", "ts"], ["good", "bad"]),
        (["device", "carnival"], ["good", "bad"]),
        (["strain_A", "cars"], ["day", "night"]),
        (["trains", "cars"], ["day", "night"]),
    ],
)
def test_words_that_are_no_splits_are_classes(
    paint: Paint, tmp_path: Path, names: list[str], inside: list[str]
) -> None:
    tree = find_images(grow(paint, tmp_path / "x", names, inside), without_test=True)
    assert tree.classes == tuple(sorted(names)) and tree.folders == {"train": "."}


def test_classes_named_like_splits_stay_classes(paint: Paint, tmp_path: Path) -> None:
    tree = find_images(grow(paint, tmp_path / "flat", ["."], ["bus", "car", "train"]), without_test=True)
    assert tree.classes == ("bus", "car", "train") and "train in flat/ is read as a class" in tree.notes[0]
    tree = find_images(grow(paint, tmp_path / "deep", ["train", "test"], ["bus", "train", "unlabeled"]))
    assert tree.classes == ("bus", "train", "unlabeled") and "train, unlabeled in train/ is read as" in tree.notes[0]
    tree = find_images(
        grow(paint, tmp_path / "words", ["."], ["bus_stop", "test_tube", "train_station"]), without_test=True
    )
    assert tree.classes == ("bus_stop", "test_tube", "train_station") and not tree.notes


def test_a_class_called_unlabeled_is_named(paint: Paint, tmp_path: Path) -> None:
    tree = find_images(grow(paint, tmp_path / "x", ["."], ["bus", "car", "unlabeled"]), without_test=True)
    assert counts(tree) == {"train": 4, "unlabeled": 2}
    assert tree.notes == ("unlabeled/ is read as images without labels: if it is a class, rename it.",)


@pytest.mark.parametrize("name", ["test", "val", "Dev"])
def test_loose_images_in_a_split_beside_classes_are_asked_about(paint: Paint, tmp_path: Path, name: str) -> None:
    line = refused(grow(paint, tmp_path / "x", ["."], ["bus", "car", name]))
    assert f"{name} has the name of a split, but no class folders; if it is a class, rename it" in line


def test_images_without_class_folders_are_said(paint: Paint, tmp_path: Path) -> None:
    paint(tmp_path / "x" / "train" / "0.png")
    paint(tmp_path / "x" / "test" / "0.png")
    assert "found none; its images are in no class folder: move each to CLASS/, or name the table" in refused(
        tmp_path / "x"
    )


def test_levels_that_may_be_exchanged_and_doubtful_classes_are_named(paint: Paint, tmp_path: Path) -> None:
    tree = find_images(
        grow(paint, tmp_path / "x", ["train/day", "train/night", "test/day", "test/night"], ["bus", "car"])
    )
    assert tree.classes == ("day", "night")
    assert tree.notes[0].startswith("The classes day, night have the same sub-folders (bus, car): if these are")
    root = grow(paint, tmp_path / "y", ["."], ["bus", "car", "thumbnails"])
    paint(root / "bus" / "Thumbs" / "0.png")
    first, second = find_images(root, without_test=True).notes
    assert "thumbnails in y/ is read as a class" in first and "hold 1 folders Thumbs, whose images are read" in second


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "@Recently-Snapshot", "@__thumb", "~snapshot", "$RECYCLE.BIN", "FOUND.000", "LOST.DIR"),
        *("Network Trash Folder", "Temporary Items", ".Trash-1000"),
    ],
)
def test_folders_that_systems_leave_are_no_classes(paint: Paint, tmp_path: Path, name: str) -> None:
    tree = find_images(grow(paint, tmp_path / "x", ["."], ["bus", "car", name]), without_test=True)
    assert tree.classes == ("bus", "car") and not tree.notes
    assert {(row.kind, row.reason, row.count) for row in tree.left_out} == {("folder", name, 1)}


@pytest.mark.parametrize("name", ["@new-tool", "#bin", "$extend", "~old"])
def test_class_folders_that_look_like_a_systems_are_noted(paint: Paint, tmp_path: Path, name: str) -> None:
    tree = find_images(grow(paint, tmp_path / "x", ["train", "test"], ["bus", name]))
    assert f"{name} in train/ is read as a class; if it is not one, move it elsewhere." in tree.notes


# --- Unicode, order, and classes that validation lacks ------------------------------------------------------------

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(("train", "test"), [(DECOMPOSED, COMPOSED), (COMPOSED, DECOMPOSED), (DECOMPOSED, DECOMPOSED)])
def test_a_name_is_one_class_in_either_form_of_unicode(paint: Paint, tmp_path: Path, train: str, test: str) -> None:
    grow(paint, tmp_path / "x", ["train"], [train, "x"])
    tree = find_images(grow(paint, tmp_path / "x", ["test", "val"], [test, "x"]))
    assert tree.classes == (COMPOSED, "x") and tree.labels("test").tolist() == [0, 0, 1, 1]


def test_both_forms_in_train_are_one_class(paint: Paint, tmp_path: Path) -> None:
    tree = find_images(grow(paint, tmp_path / "x", ["train", "test"], [COMPOSED, DECOMPOSED, "x"]))
    assert tree.classes == (COMPOSED, "x") and tree.labels("train").tolist() == [0, 0, 0, 0, 1, 1]


def test_disks_with_other_forms_give_the_same_data(paint: Paint, tmp_path: Path) -> None:
    """`cafe` with an accent of its own sorts before `caffe`, with one letter after it."""
    first, second = (
        listing(grow(paint, tmp_path / name, ["train", "test"], ["caffe", word]))
        for name, word in (("macos", DECOMPOSED), ("linux", COMPOSED))
    )
    assert first.classes == second.classes == ("caffe", COMPOSED)
    assert first.fingerprint(None) == second.fingerprint(None)


@pytest.mark.parametrize(
    ("names", "order"),
    [
        (["10", "9", "0"], ("0", "9", "10")),
        (["010", "9", "10"], ("9", "010", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["b", "B", "a"], ("B", "a", "b")),
        (["caffe", DECOMPOSED, COMPOSED], ("caffe", COMPOSED)),
    ],
)
def test_numbers_are_in_numerical_order_and_all_else_in_that_of_text(names: list[str], order: tuple[str, ...]) -> None:
    assert order_classes(names) == order


def listing(root: Path, **settings: object) -> Listing:
    section = FolderData.model_validate({"source": "image-folder", "path": str(root), "resolution": 16, **settings})
    return list_images(section)


def test_the_order_of_numbers_is_said_where_text_has_another(paint: Paint, tmp_path: Path) -> None:
    found = listing(grow(paint, tmp_path / "x", ["train", "test"], [str(number) for number in range(11)]))
    assert found.classes[-2:] == ("9", "10")
    assert "numerical order, 0, 1, 2, ...: a checkpoint trained in the order of text" in found.notes[0]
    assert not listing(grow(paint, tmp_path / "y", ["train", "test"], [str(number) for number in range(9)])).notes


@pytest.mark.parametrize("lost", ["folder", "images"])
def test_validation_may_lack_a_class_and_it_is_said(paint: Paint, tmp_path: Path, store: Store, lost: str) -> None:
    root = grow(paint, tmp_path / "x", ["train", "val", "test"], ["a", "b", "c"])
    shutil.rmtree(root / "val" / "b")
    if lost == "images":
        (root / "val" / "b").mkdir()
    recipe = parse_recipe(
        f"data: {{source: image-folder, path: {root}, resolution: 16}}\n"
        "stages: [{id: s, kind: train, student: resnet18}]"
    )
    data = prepare(recipe.data, store, 0)
    assert data.validation.labels is not None and data.validation.labels.tolist() == [0, 0, 2, 2]
    assert check_data(recipe, data, store) == ["No validation image has the class b: checkpoint selection ignores it."]
    shutil.rmtree(root / "test" / "c")
    with pytest.raises(UsageError, match=r"test: no folder for the class c of train/; add it; without it, `test: 0.2`"):
        find_images(root)
