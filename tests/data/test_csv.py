"""CSV tables of paths."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from data.packing import SETTINGS, assert_same, rows_of, write_csv

from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.webdataset import WebData
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
