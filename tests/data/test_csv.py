"""CSV tables of paths."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.packing import SETTINGS, assert_same, rows_of, write_csv
from PIL import Image

from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.listing import list_images
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.webdataset import WebData
from compress.recipe.data import FileData
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_every_delimiter_and_any_column_names_are_read(photos: Path, tmp_path: Path, mark: str) -> None:
    settings = write_csv(rows_of(photos), tmp_path / "t", "file,species,fold", mark)
    settings = settings.model_copy(update={"image": "file", "label": "species", "split": "fold"})
    assert data_key(settings, 0) == data_key(write_csv(rows_of(photos), tmp_path / "u"), 0)


def test_number_labels_index_the_classes(photos: Path, store: Store, tmp_path: Path) -> None:
    rows = [replace(row, label=row.label and str(int(row.label == "dog"))) for row in rows_of(photos)]
    settings = write_csv(rows, tmp_path / "t")
    assert prepare(settings, store, 0).classes == ("0", "1")
    named = prepare(settings.model_copy(update={"classes": ["cat", "dog"]}), store, 0)
    assert_same(named, prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 0))
    ten = [replace(row, label=row.label and str(int(row.label) + 9)) for row in rows]
    assert prepare(write_csv(ten, tmp_path / "u"), store, 0).classes == ("9", "10")


@pytest.mark.parametrize(
    ("line", "replaced", "says"),
    [
        (1, "pth,label,split", r"labels.csv:1: column 'path' not found; did you mean 'pth'\?"),
        (1, "path,label", r"labels.csv:1: column 'split' not found; columns: path, label"),
        (1, "", r"labels.csv:1: column 'path' not found; columns: none"),
        (
            4,
            "nowhere.png,cat,train",
            r"labels.csv:4: file .*nowhere.png not found; paths are relative to the CSV's folder",
        ),
        (4, "a\0b,cat,train", r"labels.csv:4: file .* not found"),
        (4, ",cat,train", r"labels.csv:4: no path in the column path"),
        (4, "{file},cat,trian", r"labels.csv:4: unknown split 'trian'; allowed: train, validation, test or unlabeled"),
        (4, "{file},cat,train,more", r"labels.csv:4: 4 cells, but the header has 3"),
        (4, '"{file}"x,cat,train', r"labels.csv:4: not valid CSV"),
        (4, "{file},,test", r"labels.csv:4: a test image needs a label"),
        (4, "{file},bird,test", r"labels.csv:4: the label 'bird' is not one of the classes cat, dog"),
        (5, "{file},dog,train", r"labels.csv:5: .* has the label 'dog', and 'cat' in line 4; an image has one label"),
        (5, "./{file},cat,test", r"labels.csv:5: .* is in test, and in train at .*labels.csv:4; remove one row"),
    ],
)
def test_a_wrong_line_is_named(photos: Path, tmp_path: Path, line: int, replaced: str, says: str) -> None:
    settings = write_csv(rows_of(photos), tmp_path / "t")
    file = tmp_path / "t" / "labels.csv"
    lines = file.read_text().splitlines()
    lines[line - 1] = replaced.format(file=lines[3].split(",")[0])
    file.write_text("\n".join(lines))
    with pytest.raises(UsageError, match=says) as caught:
        data_key(settings, 0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("labels", "says"),
    [("cat", "expected two or more classes without repetition, found cat"), ("", "no labelled train images found")],
)
def test_labels_of_fewer_than_two_classes_are_refused(photos: Path, tmp_path: Path, labels: str, says: str) -> None:
    rows = [replace(row, label=labels or None) for row in rows_of(photos) if row.split == "train"]
    with pytest.raises(UsageError, match=says):
        data_key(write_csv(rows, tmp_path / "t"), 0)


@pytest.mark.parametrize("column", ["path", "label", "split"])
def test_a_column_that_is_there_twice_is_refused(photos: Path, tmp_path: Path, column: str) -> None:
    settings = write_csv(rows_of(photos), tmp_path / "t", head="path,label,split,note,note,,")
    data_key(settings, 0)  # others are not read
    write_csv(rows_of(photos), tmp_path / "t", head=f"path,label,split,note,{column}")
    with pytest.raises(
        UsageError, match=rf"csv:1: 2 columns '{column}'; rename all but .* \(columns: path, label, split"
    ):
        data_key(settings, 0)


def test_a_path_that_is_no_csv_file_is_refused(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path / "x.csv", "does not exist"),
        (tmp_path, "is a folder, not a CSV file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(CompressError, match=says):
            data_key(CsvData(source="csv", path=str(path)), 0)


def test_a_file_that_may_not_be_seen_is_not_reported_as_absent(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write_csv(rows_of(photos), tmp_path / "table")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)
    for one in (settings, WebData(source="webdataset", path=str(tmp_path))):
        with pytest.raises(CompressError, match="cannot be read: Permission denied"):
            data_key(one, 0)


def test_a_table_that_is_not_utf8_is_refused_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"path,label,split\n\xff\xfe,cat,train\n")
    with pytest.raises(UsageError, match=r"labels.csv:2: not UTF-8 text"):
        data_key(CsvData(source="csv", path=str(tmp_path / "labels.csv")), 0)


# --- Tables as people have them ---------------------------------------------------------------------------------------

LABELS = ("cat", "dog", "eel")


def write_table(
    root: Path,
    cells: Callable[[int], str],
    head: str = "path,label",
    *,
    name: str = "train.csv",
    encoding: str = "utf-8",
) -> CsvData:
    """Write twelve images into `root/train` and a row of a table for each."""
    for number in range(12):
        (root / "train").mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(root / "train" / f"{number}.jpg")
    (root / name).write_text("\n".join([head, *map(cells, range(12))]) + "\n", encoding=encoding)
    image, label = (column.strip() for column in head.replace("\t", ",").split(",")[:2])
    return CsvData(source="csv", path=str(root / name), image=image, label=label, test=0.2)


@pytest.mark.parametrize(
    ("cells", "options"),
    [
        (lambda n: f"train/{n}.jpg,{LABELS[n % 3]}", {}),
        (lambda n: f'train/{n}.jpg, "{LABELS[n % 3]}"', {}),
        (lambda n: f'"train/{n}.jpg", {LABELS[n % 3]}', {"head": "path, label"}),
        (lambda n: f"train\\{n}.jpg,{LABELS[n % 3]}", {}),
        (lambda n: f"{n}.jpg,{LABELS[n % 3]}", {}),
        (lambda n: f"{n},{LABELS[n % 3]}", {"head": "id,breed"}),
        (lambda n: f"train/{n},{LABELS[n % 3]}", {}),
        (lambda n: f"train/{n}.jpg,{LABELS[n % 3]}", {"encoding": "utf-16"}),
        (lambda n: f"{n}.jpg,{LABELS[n % 3]}", {"name": "labels.csv"}),
        (lambda n: f"{n}\t{LABELS[n % 3]}", {"head": "path\tlabel", "name": "train.tsv"}),
    ],
    ids=[
        "plain",
        "quotes after a space",
        "header with a space",
        "backslashes",
        "images in the table's own folder",
        "ids",
        "paths without ending",
        "UTF-16",
        "images in the only folder",
        "tabs",
    ],
)
def test_tables_are_read_as_people_write_them(
    tmp_path: Path, cells: Callable[[int], str], options: dict[str, Any]
) -> None:
    settings = write_table(tmp_path, cells, **options)
    found = list_images(settings)
    assert found.classes == LABELS and found.counts("train") == [4, 4, 4] and not found.left_out
    plain = write_table(tmp_path / "plain", lambda n: f"train/{n}.jpg,{LABELS[n % 3]}")
    assert data_key(settings, 0) == data_key(plain, 0)


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("IMG_{}", "IMG_{}.JPG"),
        ("train/img_{}", "train/IMG_{}.JPEG"),
        ("cat{}.jpg", "cat{}.JPG"),
        ("cat{}.JPG", "cat{}.jpg"),
        ("Train\\Cat{}.jpg", "train/cat{}.JPG"),
        ("./a/../Train/{}.jpg", "train/{}.Jpg"),
        ("caf\u00e9{}.jpg", "CAFE\u0301{}.jpg"),
    ],
)
def test_a_path_may_differ_in_upper_and_lower_case(tmp_path: Path, cell: str, file: str) -> None:
    settings = write_table(tmp_path, lambda n: f"{cell.format(n)},{LABELS[n % 3]}")
    (tmp_path / "a").mkdir()
    for number in range(12):
        (tmp_path / "train" / f"{number}.jpg").rename(tmp_path / "train" / Path(file.format(number)).name)
    found = list_images(settings)
    assert found.counts("train") == [4, 4, 4] and not found.left_out
    plain = write_table(tmp_path / "plain", lambda n: f"train/{n}.jpg,{LABELS[n % 3]}")
    assert data_key(settings, 0) == data_key(plain, 0)


@pytest.mark.parametrize(("cell", "exact"), [("a.jpg", None), ("a", None), ("a.jpg", "a.jpg"), ("a", "a.png")])
def test_files_that_differ_only_in_case_are_asked_about_unless_one_is_named(
    tmp_path: Path, cell: str, exact: str | None
) -> None:
    settings = write_table(tmp_path, lambda n: f"{n}.jpg,{LABELS[n % 3]}" if n else f"{cell},cat")
    for name in ("A.JPG", "a.JPG", *([exact] if exact else [])):
        shutil.copy(tmp_path / "train" / "0.jpg", tmp_path / "train" / name)
    if exact:
        assert list_images(settings).parts["train"].name(0) == f"train/{exact}"
        return
    with pytest.raises(UsageError, match=rf"train.csv:2: file {cell} not found; A.JPG, a.JPG differ from it in upper"):
        list_images(settings)


def test_the_images_of_another_folder_are_not_taken(tmp_path: Path) -> None:
    settings = write_table(tmp_path, lambda n: f"{n}.jpg,{LABELS[n % 3]}", name="labels.csv")
    (tmp_path / "test").mkdir()
    shutil.copy(tmp_path / "train" / "0.jpg", tmp_path / "test" / "0.jpg")
    with pytest.raises(
        UsageError, match=r"labels.csv:2: 0.jpg is in several folders \(test, train\); write the folder"
    ):
        list_images(settings)
    (tmp_path / "test" / "0.jpg").rename(tmp_path / "test" / "99.jpg")
    (tmp_path / "labels.csv").write_text("path,label\n1.jpg,cat\n99.jpg,dog\n")
    with pytest.raises(UsageError, match=r"labels.csv:3: file 99.jpg not found"):
        list_images(settings)


def test_the_path_that_is_meant_is_suggested(tmp_path: Path) -> None:
    settings = write_table(tmp_path, lambda n: f"/data/mine/train/{n}.jpg,{LABELS[n % 3]}")
    with pytest.raises(UsageError, match=r"train.csv:2: file /data/mine/train/0.jpg not found.*mean train/0.jpg\?"):
        list_images(settings)


@pytest.mark.parametrize("word", ["NaN", "nan", "", "<NA>", "null", "-1", "-1.0"])
def test_rows_with_a_gap_are_images_without_a_label(tmp_path: Path, word: str) -> None:
    settings = write_table(tmp_path, lambda n: f"train/{n}.jpg,{LABELS[n % 3] if n % 4 else word}")
    found = list_images(settings)
    assert found.classes == LABELS and found.parts["unlabeled"].count == 3
    assert bool(found.notes) == (word not in ("", "-1"))
    assert not found.notes or found.notes[0].startswith("3 rows have NaN or null as their label")


def test_whole_numbers_with_a_point_are_whole_numbers(tmp_path: Path) -> None:
    settings = write_table(tmp_path, lambda n: f"train/{n}.jpg,{n % 3}.0")
    assert list_images(settings).classes == ("0", "1", "2")
    named = list_images(settings.model_copy(update={"classes": list(LABELS)}))
    assert named.classes == LABELS and named.counts("train") == [4, 4, 4]


def test_labels_from_one_are_refused_where_classes_are_named(tmp_path: Path) -> None:
    settings = write_table(tmp_path, lambda n: f"train/{n}.jpg,{n % 3 + 1}")
    assert list_images(settings).classes == ("1", "2", "3")
    with pytest.raises(UsageError, match=r"train.csv: the labels are 1 to 3, but indices into `classes` start at 0"):
        list_images(settings.model_copy(update={"classes": list(LABELS)}))


def test_numbers_have_the_order_that_folders_have(tmp_path: Path) -> None:
    found = list_images(write_table(tmp_path / "t", lambda n: f"train/{n}.jpg,{n}"))
    for number in range(12):
        (tmp_path / "f" / f"{number}").mkdir(parents=True)
        shutil.copy(tmp_path / "t" / "train" / f"{number}.jpg", tmp_path / "f" / f"{number}")
    folder = list_images(FolderData(source="image-folder", path=str(tmp_path / "f"), test=0.2))
    assert found.classes == folder.classes == tuple(map(str, range(12)))
    assert found.notes == folder.notes and "numerical order" in found.notes[0]


def test_labels_in_either_form_of_unicode_are_one_class(tmp_path: Path) -> None:
    forms = ("caf\u00e9", "cafe\u0301", "tea")
    found = list_images(write_table(tmp_path, lambda n: f"train/{n}.jpg,{forms[n % 3]}"))
    assert found.classes == ("caf\u00e9", "tea") and found.counts("train") == [8, 4]


def test_the_same_image_under_another_path_is_a_repetition(tmp_path: Path) -> None:
    settings = write_table(tmp_path, lambda n: f"{'./train/../' * (n == 11)}train/{n % 11}.jpg,{LABELS[n % 11 % 3]}")
    found = list_images(settings)
    assert found.parts["train"].count == 11
    assert [(row.kind, row.count, row.first) for row in found.left_out] == [
        ("image", 1, "train/11.jpg"),
        ("row", 1, "train.csv:13"),
    ]


def test_tables_of_a_pattern_are_splits(tmp_path: Path) -> None:
    write_table(tmp_path, lambda n: f"train/{n}.jpg,{LABELS[n % 3]}")
    lines = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join(lines[:10]))
    (tmp_path / "test.csv").write_text("\n".join([lines[0], *lines[10:]]))
    found = list_images(CsvData(source="csv", path=str(tmp_path / "{train,test}.csv")))
    assert (found.counts("train"), found.counts("test")) == ([3, 3, 3], [1, 1, 1])
    assert found.parts["test"].name(0).endswith("train/9.jpg")


def test_a_relative_path_is_said_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sections: tuple[FileData, ...] = (
        CsvData(source="csv", path="no/where.csv"),
        FolderData(source="image-folder", path="no/where"),
        WebData(source="webdataset", path="no/where.tar"),
        WebData(source="webdataset", path="no/where-{00..01}.tar"),
        ArrowData(source="hf-dataset", path="no/where"),
    )
    for settings in sections:
        with pytest.raises(UsageError) as caught:
            list_images(settings)
        assert "no/where" in str(caught.value) and f"(in {tmp_path})" in str(caught.value)
