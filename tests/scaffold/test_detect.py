"""Which source reads what lies in a path."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from scaffold.folders import folder, paint, text_for

from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.webdataset import WebData
from compress.recipe import parse_recipe
from compress.scaffold.detect import detect_source
from compress.scaffold.summary import survey_lines, survey_record
from compress.scaffold.survey import survey_images
from compress.utils.errors import UsageError

NAMES = ('it\'s a "cat"', "Äpfel: #1 {x}", "鳥 - [b]", "yes")


def write_csv(root: Path, head: str) -> Path:
    with (root / "list of all.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(head.split(","))
        for row, name in enumerate(NAMES):
            for number in range(4):
                paint(root / "i" / f"{name[:3]}{number}.png", 10 * row + number)
                writer.writerow([number, f"i/{name[:3]}{number}.png", name])
    return root / "list of all.csv"


def test_csv_columns_are_recognized_by_name(tmp_path: Path) -> None:
    table = write_csv(tmp_path, "Number,Filename,Species")
    for path in (table, tmp_path):  # the folder has no class folders, so the table counts
        data = parse_recipe(text_for(path)).data
        assert isinstance(data, CsvData) and (data.image, data.label) == ("Filename", "Species")
        assert data.test == 0.2


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("Number,Filename,What", "no column of labels among Number, Filename, What; name it 'label'"),
        ("Number,Where,Label", "no column of paths among Number, Where, Label; name it 'path'"),
    ],
)
def test_csv_without_a_recognizable_column_is_refused(tmp_path: Path, head: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"list of all.csv:1: {message}"):
        detect_source(str(write_csv(tmp_path, head)))


def test_parquet_and_saved_datasets_are_recognized(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    folder(tmp_path / "i", cat=4, dog=4)
    files = sorted((tmp_path / "i").rglob("*.png"))
    table = pa.table({"pic": [{"bytes": f.read_bytes()} for f in files], "Class": [f.parent.name for f in files]})
    pq.write_table(table, tmp_path / "birds.parquet")
    data = parse_recipe(text_for(tmp_path / "birds.parquet")).data
    assert isinstance(data, ArrowData)
    assert (data.source, data.image, data.label, data.test) == ("parquet", "pic", "Class", 0.2)
    (tmp_path / "saved").mkdir()
    with pa.OSFile(str(tmp_path / "saved" / "a.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "saved" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "a.arrow"}]}))
    data = parse_recipe(text_for(tmp_path / "saved")).data
    assert isinstance(data, ArrowData) and (data.source, data.image, data.label) == ("hf-dataset", "pic", "Class")


def test_parquet_without_images_or_labels_is_refused(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"a": [1]}), tmp_path / "birds.parquet")
    with pytest.raises(UsageError, match=r"birds.parquet: no column of images among a; store each image's file"):
        detect_source(str(tmp_path / "birds.parquet"))
    pq.write_table(pa.table({"a": [b"x"], "b": [1]}), tmp_path / "birds.parquet")
    with pytest.raises(UsageError, match=r"birds.parquet: no column of labels among .*; name it 'label'"):
        detect_source(str(tmp_path / "birds.parquet"))


def test_parquet_without_pyarrow_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setattr("compress.scaffold.detect.version_of", lambda package: None)
    with pytest.raises(UsageError, match=r"parquet needs pyarrow: pip install 'compress-model\[data\]'"):
        detect_source(str(tmp_path))


def write_tars(root: Path, members: dict[str, bytes]) -> None:
    for split, count in (("train", 8), ("test", 4)):
        with tarfile.open(root / f"{split}.tar", "w") as archive:
            for number in range(count):
                paint(root / "x.png", number)
                archive.add(root / "x.png", f"{number:03}.png")
                for ending, content in members.items():
                    info = tarfile.TarInfo(f"{number:03}.{ending}")
                    value = content % (number % 2) if b"%d" in content else content
                    info.size = len(value)
                    archive.addfile(info, io.BytesIO(value))
    (root / "x.png").unlink()


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ({"cls": b"%d", "txt": b"a caption"}, "cls"),
        ({"txt": b"kind %d"}, "txt"),
        ({"json": b'{"id": 3, "Category": "k%d"}'}, "json.Category"),
    ],
)
def test_labels_of_webdataset_shards_are_recognized(tmp_path: Path, members: dict[str, bytes], label: str) -> None:
    write_tars(tmp_path, members)
    data = parse_recipe(text_for(tmp_path)).data
    assert isinstance(data, WebData) and data.label == label and data.test is None


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"seg": b"0"}, r"\.tar: no labels among .*seg; add a \.cls, \.txt or \.json file per image"),
        ({"json": b'{"id": 3, "width": 7}'}, r"no label among the fields of its \.json, id, width; name it 'label'"),
    ],
)
def test_webdataset_shards_without_labels_are_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    write_tars(tmp_path, members)
    with pytest.raises(UsageError, match=message):
        detect_source(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "nowhere does not exist; give a folder of images, or a CSV, Parquet or tar file"),
        ("empty", r"empty: no image \(.*\.png.*\), and no CSV, Parquet or tar file either"),
        ("a.txt", "a.txt is neither a folder of images nor a CSV, Parquet or tar file"),
    ],
)
def test_paths_without_images_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(UsageError, match=message):
        detect_source(str(tmp_path / name))


# --- Tables in folders of images ------------------------------------------------------------------------------------


def write_rows(table: Path, rows: Sequence[str], head: str = "id,label") -> Path:
    table.write_text("\n".join([head, *rows]) + "\n")
    return table


def kaggle(root: Path) -> Path:
    """Flat `train/` and `test/` with the tables of a competition beside them."""
    for part, numbers in (("train", range(12)), ("test", range(12, 16))):
        for number in numbers:
            paint(root / part / f"{number}.jpg", number)
    write_rows(root / "train.csv", [f"{number},k{number % 2}" for number in range(12)])
    write_rows(root / "test.csv", [f"{number}" for number in range(12, 16)], "id")
    write_rows(root / "sample_submission.csv", [f"{number},k0" for number in range(12, 16)])
    return root


def test_the_table_of_a_flat_folder_is_found_among_others(tmp_path: Path) -> None:
    settings = detect_source(str(kaggle(tmp_path / "x")))
    assert isinstance(settings, CsvData) and (settings.image, settings.label, settings.test) == ("id", "label", 0.2)
    survey = survey_images(settings)
    assert settings.path == str(tmp_path / "x" / "train.csv") and survey.counts == {"train": [6, 6]}
    lines = "\n".join(survey_lines(settings, survey))
    assert "left out: test.csv is not read: no column of labels among id" in lines
    assert "left out: sample_submission.csv is not read: to read it, run `init " in lines


def test_tables_named_by_split_are_read_together(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "my photos")
    write_rows(root / "test.csv", [f"test/{number}.jpg,k{number % 2}" for number in range(12, 16)])
    write_rows(root / "train.csv", [f"train/{number}.jpg,k{number % 2}" for number in range(12)])
    data = parse_recipe(text_for(root)).data
    assert isinstance(data, CsvData) and data.path == f"{root}/{{test.csv,train.csv}}"
    assert survey_images(data).counts == {"train": [6, 6], "test": [2, 2]}


SPLITS = {
    "fold": (["0", "1", "2", "3"], None, "fold is not read as the split: its values are 0, 1, 2, 3; to read it, write"),
    "set": (["A", "B", "A", ""], None, "set is not read as the split: its values are A, B;"),
    "Subset": ([""], None, "Subset is not read as the split: it is empty;"),
    "is_valid": (["False", "True"], None, "is_valid is not read as the split: its values are False, True;"),
    "split": (["train", "Test"], "split", None),
    "Partition": (["", "test"], "Partition", None),
}


@pytest.mark.parametrize("column", SPLITS)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_column_is_the_split_if_it_says_splits(tmp_path: Path, column: str, kind: str) -> None:
    values, split, note = SPLITS[column]
    root = folder(tmp_path / "i", cat=12, dog=12)
    files = sorted(root.rglob("*.png"))
    words = [values[number % len(values)] for number in range(len(files))]
    labels = [file.parent.name for file in files]
    if kind == "csv":
        rows = [
            f"{file.relative_to(tmp_path)},{label},{word}"
            for file, label, word in zip(files, labels, words, strict=True)
        ]
        path = tmp_path / "list.csv"
        path.write_text("\n".join([f"path,label,{column}", *rows]))
    else:
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet as pq

        content = [file.read_bytes() for file in files]
        splits = words if column != "Partition" else [word or "train" for word in words]
        pq.write_table(pa.table({"image": content, "label": labels, column: splits}), path := tmp_path / "x.parquet")
    settings = detect_source(str(path))
    assert isinstance(settings, CsvData | ArrowData) and settings.split == split
    assert settings.test == (None if split else 0.2)
    survey = survey_images(settings)
    notes = [line for line in survey_lines(settings, survey) if "is not read as the split" in line]
    assert survey_record(settings, survey)["notes"] == [line.removeprefix("  note: ") for line in notes]
    assert len(notes) == bool(note) and all(note in line for line in notes)


def test_a_split_column_with_a_wrong_word_is_not_passed_over(tmp_path: Path) -> None:
    folder(tmp_path, cat=2, dog=2)
    lines = ["path,label,split", "cat/0.png,cat,train", "dog/0.png,dog,train", "cat/1.png,cat,tset"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(UsageError, match=r"list.csv:4: unknown split 'tset'"):
        detect_source(str(tmp_path / "list.csv"))


def test_several_tables_that_could_be_meant_are_asked_about(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "x")
    (root / "train.csv").rename(root / "labels.csv")
    with pytest.raises(UsageError, match=r"x: labels.csv, sample_submission.csv all list images with labels; give one"):
        detect_source(str(root))


LATIN = "number,remark\n1,très bien\n".encode("latin-1")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (LATIN, "line 2: not UTF-8 text"),
        (b'"a" b,c\n1,2\n' + b'"' * 200_000, "no column of paths among"),
        (b"a" * 200_000, "not valid CSV: field larger than field limit"),
        (PermissionError(13, "Permission denied"), "cannot be read: Permission denied"),
    ],
    ids=["encoding", "quotes", "header", "rights"],
)
@pytest.mark.parametrize("flat", [True, False], ids=["tables", "folders"])
def test_a_table_that_is_left_out_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | OSError, reason: str, flat: bool
) -> None:
    root, notes, read = tmp_path / "x", tmp_path / "x" / "notes.csv", Path.read_bytes
    if flat:
        kaggle(root)
    else:
        for part in ("train", "test"):
            folder(root / part, cat=4, dog=4)
    notes.write_bytes(content if isinstance(content, bytes) else b"")

    def read_bytes(path: Path) -> bytes:
        if path == notes and isinstance(content, OSError):
            raise content
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    if flat:  # the tables that are read are those of train
        (root / "sample_submission.csv").unlink()
    settings = detect_source(str(root))
    assert settings.path == str(root / "train.csv" if flat else root)
    assert f"left out: notes.csv is not read: {reason}" in "\n".join(survey_lines(settings, survey_images(settings)))


def test_a_table_of_train_that_cannot_be_read_is_not_replaced_by_another(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "x")
    (root / "train.csv").write_bytes(LATIN)
    with pytest.raises(UsageError, match=r"train.csv:2: not UTF-8 text; save the table as UTF-8"):
        detect_source(str(root))


def test_class_folders_count_before_a_table_that_is_named(tmp_path: Path) -> None:
    folder(tmp_path / "x", cat=4, dog=4)
    write_rows(tmp_path / "x" / "labels.csv", ["cat/0.png,a"])
    settings = detect_source(str(tmp_path / "x"))
    assert settings.source == "image-folder"
    assert "labels.csv is not read: to read it" in "\n".join(survey_lines(settings, survey_images(settings)))


@pytest.mark.parametrize("wrapped", ["train", "."])
@pytest.mark.parametrize("header", ["path,label", "filename,x,y,w,h"])
def test_class_folders_stay_classes_beside_a_table_of_the_same_images(
    tmp_path: Path, wrapped: str, header: str
) -> None:
    root = tmp_path / "x"
    for part in (wrapped, *(["test"] if wrapped == "train" else [])):
        folder(root / part, cat=4, dog=4)
    rows = [header, *(f"{file.relative_to(root)},{file.parent.name},1,2,3" for file in sorted(root.rglob("*.png")))]
    (root / "labels.csv").write_text(
        "\n".join(row if "w,h" in header else ",".join(row.split(",")[:2]) for row in rows)
    )
    assert detect_source(str(root)).source == "image-folder"


@pytest.mark.parametrize(
    ("folders", "row"),
    [
        (("train_images", "test_images"), "{number}"),
        (("train_images", "test_images"), "train_images/{number}.jpg"),
        (("images", "masks"), "images/{number}.jpg"),
        (("Images", "annotations"), "Images/{number}.jpg"),
    ],
)
def test_folders_of_several_classes_are_not_classes_beside_their_table(
    tmp_path: Path, folders: tuple[str, str], row: str
) -> None:
    root, rows = tmp_path / "x", []
    for number in range(12):
        paint(root / folders[0] / f"{number}.jpg", number)
        paint(root / folders[1] / f"{100 + number}.jpg", 100 + number)
        rows.append(f"{row.format(number=number)},k{number % 2}")
    write_rows(root / "train.csv", rows)
    settings = detect_source(str(root))
    assert isinstance(settings, CsvData) and settings.path == str(root / "train.csv")
    half = len(rows) // 2
    assert survey_images(settings).counts == {"train": [half, half]}


def test_an_image_in_two_folders_that_are_not_classes_is_asked_about(tmp_path: Path) -> None:
    for name, start in (("images", 0), ("masks", 100)):
        for number in range(8):
            paint(tmp_path / "x" / name / f"{number}.png", start + number)
    write_rows(tmp_path / "x" / "labels.csv", [f"{number}.png,k{number % 2}" for number in range(8)])
    with pytest.raises(UsageError, match=r"0.png is in several folders \(images, masks\); write the folder"):
        detect_source(str(tmp_path / "x"))


@pytest.mark.parametrize("label", ["{name}", "{name} {odd}", "photo {number} of a {name}"])
def test_class_folders_count_before_a_table_that_repeats_or_refines_them(tmp_path: Path, label: str) -> None:
    root = folder(tmp_path / "x", cat=8, dog=8)
    images = [(name, number) for name in ("cat", "dog") for number in range(8)]
    texts = [label.format(name=name, number=number, odd=number % 2) for name, number in images]
    write_rows(
        root / "a.csv", [f"{name}/{number}.png,{text}" for (name, number), text in zip(images, texts, strict=True)]
    )
    assert detect_source(str(root)).source == "image-folder"


@pytest.mark.parametrize("parts", [("Training", "Testing"), ("seg_train", "seg_test"), ("train", "Test")])
def test_test_folders_of_any_name_are_the_test_split(tmp_path: Path, parts: tuple[str, str]) -> None:
    for part in parts:
        folder(tmp_path / "x" / part, cat=4, dog=4)
    settings = detect_source(str(tmp_path / "x"))
    assert settings.test is None and survey_images(settings).counts == {"train": [4, 4], "test": [4, 4]}


def test_a_relative_path_is_said_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        detect_source("nowhere")
    assert str(caught.value).startswith(f"nowhere (in {tmp_path}) does not exist; give a folder of images")
