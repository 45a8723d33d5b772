"""The same images as a CSV, as Parquet, as a folder of Hugging Face `datasets` and as WebDataset tars."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.prepared import ImageData, prepare
from compress.data.sources import data_key
from compress.data.tree import find
from compress.data.webdataset import WebData
from compress.recipe import parse_recipe
from compress.recipe.data import FileData
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

Row = tuple[str, str | None, Path]  # split, class, file
SETTINGS: dict[str, Any] = {"resolution": 16}


def rows_of(photos: Path) -> list[Row]:
    """In the order in which the folder source has them."""
    tree = find(photos)
    return [
        (part, None if labels is None else tree.classes[labels[row]], file)
        for part, (files, labels) in tree.parts.items()
        for row, file in enumerate(files)
    ]


def write_csv(rows: list[Row], to: Path, head: str = "path,label,split", mark: str = ",") -> CsvData:
    lines = [mark.join((os.path.relpath(file, to), label or "", split)) for split, label, file in rows]
    to.mkdir(exist_ok=True)
    (to / "labels.csv").write_text("\n".join([head.replace(",", mark), *lines]) + "\n")
    return CsvData(source="csv", path=str(to / "labels.csv"), split="split", **SETTINGS)


def split_groups(rows: list[Row]) -> dict[str, list[Row]]:
    return {split: [row for row in rows if row[0] == split] for split in dict.fromkeys(split for split, _, _ in rows)}


def table(rows: list[Row], names: list[str]) -> Any:
    """As `datasets` writes it: a struct of bytes and path, whole numbers, the names in the schema's metadata."""
    import pyarrow as pa

    images = [{"bytes": file.read_bytes(), "path": file.name} for _, _, file in rows]
    labels = [-1 if label is None else names.index(label) for _, label, _ in rows]
    features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array(images, kind), "label": pa.array(labels, pa.int64())}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(rows: list[Row], to: Path) -> ArrowData:
    import pyarrow.parquet as pq

    to.mkdir()
    for split, group in split_groups(rows).items():
        for number in range(2):  # two shards a split
            half = group[: len(group) // 2] if number == 0 else group[len(group) // 2 :]
            pq.write_table(table(half, ["cat", "dog"]), to / f"{split}-0000{number}-of-00002.parquet")
    return ArrowData(source="parquet", path=str(to), **SETTINGS)


def write_saved(rows: list[Row], to: Path) -> ArrowData:
    import pyarrow as pa

    groups = split_groups(rows)
    to.mkdir()
    (to / "dataset_dict.json").write_text(json.dumps({"splits": list(groups)}))
    for split, group in groups.items():
        (to / split).mkdir()
        found = table(group, ["cat", "dog"])
        path = str(to / split / "data-00000-of-00001.arrow")
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, found.schema) as writer:
            writer.write_table(found, max_chunksize=7)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_fingerprint": "0"}
        (to / split / "state.json").write_text(json.dumps(state))
    return ArrowData(source="hf-dataset", path=str(to), **SETTINGS)


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_tars(rows: list[Row], to: Path, mode: str = "w") -> WebData:
    to.mkdir()
    ending = ".tar.gz" if mode == "w:gz" else ".tar"
    for split, group in split_groups(rows).items():
        for number in range(2):
            half = group[: len(group) // 2] if number == 0 else group[len(group) // 2 :]
            with tarfile.open(to / f"{split}-{number:03}{ending}", mode) as archive:
                for row, (_, label, file) in enumerate(half):
                    add(archive, f"a/{number}{row:04}{file.suffix}", file.read_bytes())
                    add(archive, f"a/{number}{row:04}.json", json.dumps({"name": label}).encode())
    return WebData(source="webdataset", path=str(to), label="json.name", **SETTINGS)


WRITERS: dict[str, Callable[[list[Row], Path], FileData]] = {
    "csv": write_csv,
    "parquet": write_parquet,
    "hf-dataset": write_saved,
    "webdataset": write_tars,
}


@pytest.fixture(params=list(WRITERS))
def write(request: pytest.FixtureRequest) -> Callable[[list[Row], Path], FileData]:
    if request.param in ("parquet", "hf-dataset"):
        pytest.importorskip("pyarrow")
    return WRITERS[request.param]


def same(first: ImageData, second: ImageData) -> None:
    assert first.classes == second.classes
    for split in ("train", "unlabeled", "validation", "test"):
        one, two = getattr(first, split), getattr(second, split)
        assert np.array_equal(one.images, two.images), split
        assert (one.labels is None) == (two.labels is None)
        assert one.labels is None or np.array_equal(one.labels, two.labels)


def without(rows: list[Row], *splits: str) -> list[Row]:
    return [row for row in rows if row[0] not in splits]


def test_all_give_what_the_folder_gives(photos, store, tmp_path, write):
    folder = prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 3)
    found = prepare(write(rows_of(photos), tmp_path / "packed"), store, 3)
    assert len(found.train) == 18 and len(found.unlabeled) == 4
    same(folder, found)


def test_test_and_validation_are_cut_alike(photos, store, tmp_path, write):
    shutil.rmtree(photos / "test")
    folder = prepare(FolderData(source="image-folder", path=str(photos), test=0.3, **SETTINGS), store, 1)
    rows = [(split, label, file) for split, label, file in rows_of_cut(photos)]
    packed = write(rows, tmp_path / "packed")
    with pytest.raises(UsageError, match=r"has no test images; `test: 0.2` in data cuts"):
        data_key(packed, 1)
    found = prepare(packed.model_copy(update={"test": 0.3}), store, 1)
    assert np.bincount(found.test.labels).tolist() == [3, 3] and np.bincount(found.train.labels).tolist() == [6, 6]
    same(folder, found)


def rows_of_cut(photos: Path) -> list[Row]:
    tree = find(photos, without_test=True)
    return [
        (part, None if labels is None else tree.classes[labels[row]], file)
        for part, (files, labels) in tree.parts.items()
        for row, file in enumerate(files)
    ]


def test_the_key_is_of_what_is_inside(photos, tmp_path, write):
    packed = write(rows_of(photos), tmp_path / "packed")
    cache = tmp_path / "digests.json"
    key = data_key(packed, 0, cache)
    assert data_key(packed, 0, cache) == data_key(packed, 0) == key
    shutil.copytree(tmp_path / "packed", tmp_path / "moved")
    moved = packed.model_copy(update={"path": packed.path.replace("/packed", "/moved")})
    assert data_key(moved, 0) == key
    for change in ({"resolution": 24}, {"broken": "skip"}, {"labeled": 4}, {"validation": 0.3}):
        assert data_key(packed.model_copy(update=change), 0) != key
    assert data_key(packed, 1) != key
    swapped = rows_of(photos)
    swapped[0], swapped[1] = (*swapped[0][:2], swapped[1][2]), (*swapped[1][:2], swapped[0][2])
    assert data_key(write(swapped, tmp_path / "other"), 0) != key


def test_broken_images_are_named_skipped_and_counted(photos, store, tmp_path, write):
    (photos / "train" / "cat" / "03.png").write_bytes(b"nothing")
    whole = (photos / "train" / "dog" / "04.png").read_bytes()
    (photos / "train" / "dog" / "04.png").write_bytes(whole[:100])
    (photos / "unlabeled" / "sub0" / "0.png").write_bytes(b"")
    packed = write(rows_of(photos), tmp_path / "packed")
    with pytest.raises(CompressError, match=r"is no image that can be read; remove it, or set data.broken to skip"):
        prepare(packed, store, 0)
    skipping = packed.model_copy(update={"broken": "skip"})
    data = prepare(skipping, store, 0)
    assert data.skipped == 3 and len(data.train) + len(data.validation) == 18 and len(data.unlabeled) == 3
    folder = FolderData(source="image-folder", path=str(photos), broken="skip", **SETTINGS)
    same(prepare(folder, store, 0), data)


def test_damaged_files(photos, tmp_path, write):
    packed = write(rows_of(photos), tmp_path / "packed")
    for file in sorted((tmp_path / "packed").rglob("*")):
        if file.is_file() and file.suffix in (".parquet", ".arrow", ".tar"):
            content = file.read_bytes()
            for damaged in (content[: len(content) // 2], b"", b"x" * 600):
                file.write_bytes(damaged)
                with pytest.raises(CompressError) as caught:
                    prepare(packed, Store(tmp_path / "store"), 0)
                assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
            return
    (tmp_path / "packed" / "labels.csv").write_bytes(b"path,label,split\n\xff\xfe,cat,train\n")
    with pytest.raises(UsageError, match=r"labels.csv:2: is not UTF-8 text"):
        data_key(packed, 0)


# --- CSV ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_delimiters_and_names_of_columns(photos, tmp_path, mark):
    settings = write_csv(rows_of(photos), tmp_path / "t", "file,species,fold", mark)
    settings = settings.model_copy(update={"image": "file", "label": "species", "split": "fold"})
    assert data_key(settings, 0) == data_key(write_csv(rows_of(photos), tmp_path / "u"), 0)


def test_numbers_are_places_in_classes(photos, store, tmp_path):
    rows = [(split, label and str(int(label == "dog")), file) for split, label, file in rows_of(photos)]
    settings = write_csv(rows, tmp_path / "t")
    assert prepare(settings, store, 0).classes == ("0", "1")
    named = prepare(settings.model_copy(update={"classes": ["cat", "dog"]}), store, 0)
    same(named, prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 0))
    ten = [(split, label and str(int(label) + 9), file) for split, label, file in rows]
    assert prepare(write_csv(ten, tmp_path / "u"), store, 0).classes == ("9", "10")


@pytest.mark.parametrize(
    ("line", "replaced", "says"),
    [
        (1, "pth,label,split", r"labels.csv:1: there is no column 'path'; did you mean 'pth'\?"),
        (1, "path,label", r"labels.csv:1: there is no column 'split'; there are: path, label"),
        (1, "", r"labels.csv:1: there is no column 'path'; there are: none"),
        (4, "nowhere.png,cat,train", r"labels.csv:4: there is no file .*nowhere.png; paths are relative to the CSV"),
        (4, "a\0b,cat,train", r"labels.csv:4: there is no file"),
        (4, ",cat,train", r"labels.csv:4: has no path in the column path"),
        (4, "{file},cat,trian", r"labels.csv:4: 'trian' is no split; allowed: train, validation, test or unlabeled"),
        (4, "{file},cat,train,more", r"labels.csv:4: has 4 cells, the header 3"),
        (4, '"{file}"x,cat,train', r"labels.csv:4: is not valid CSV"),
        (4, "{file},,test", r"labels.csv:4: has no label, which a test image needs"),
        (4, "{file},bird,test", r"labels.csv:4: the label 'bird' is none of the classes cat, dog"),
        (5, "{file},cat,train", r"labels.csv:5: .* is at line 4 already"),
    ],
)
def test_wrong_lines_are_named(photos, tmp_path, line, replaced, says):
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
    [("cat", "needs two or more classes, each once, and has cat"), ("", "has no labelled train images")],
)
def test_one_class_or_none(photos, tmp_path, labels, says):
    rows = [(split, labels or None, file) for split, _, file in rows_of(photos) if split == "train"]
    with pytest.raises(UsageError, match=says):
        data_key(write_csv(rows, tmp_path / "t"), 0)


def test_a_class_that_a_split_lacks(photos, tmp_path):
    rows = [row for row in rows_of(photos) if row[:2] != ("test", "dog")]
    with pytest.raises(UsageError, match=r"has no test image of dog; each class needs one at least"):
        data_key(write_csv(rows, tmp_path / "t"), 0)


def test_no_csv(tmp_path):
    for path, says in (
        (tmp_path / "x.csv", "does not exist"),
        (tmp_path, "is a folder, not a CSV file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(CompressError, match=says):
            data_key(CsvData(source="csv", path=str(path)), 0)


# --- Parquet and Hugging Face -------------------------------------------------------------------------------------


def test_plain_bytes_text_labels_and_a_split_column(photos, store, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = rows_of(photos)
    columns = {
        "picture": [file.read_bytes() for _, _, file in rows],
        "kind": pa.array([label for _, label, _ in rows]).dictionary_encode(),
        "fold": [split for split, _, _ in rows],
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet", row_group_size=5)
    settings = ArrowData(
        source="parquet", path=str(tmp_path / "all.parquet"), image="picture", label="kind", split="fold", **SETTINGS
    )
    folder = FolderData(source="image-folder", path=str(photos), **SETTINGS)
    same(prepare(settings, store, 0), prepare(folder, store, 0))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "img"}, r"there is no column 'img'.* there are: image, label, extra"),
        ({"label": "labels"}, r"there is no column 'labels'; did you mean 'label'\?"),
        ({"image": "label"}, r"the column 'label' is int64, not bytes or a struct that has `bytes`"),
        ({"label": "extra"}, r"the column 'extra' is double, not whole numbers or text"),
        ({"split": "label"}, r"row 0: '0' is no split"),
        ({"classes": ["one", "two", "three"]}, r"has no train image of three"),
    ],
)
def test_wrong_columns(photos, tmp_path, change, says):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    found = table(without(rows_of(photos), "unlabeled", "test"), ["cat", "dog"])
    pq.write_table(found.append_column("extra", pa.array([0.5] * len(found))), tmp_path / "train.parquet")
    settings = ArrowData(source="parquet", path=str(tmp_path), test=0.2, **SETTINGS)
    data_key(settings, 0)
    with pytest.raises(UsageError, match=says):
        data_key(settings.model_copy(update=change), 0)


def test_shards_of_other_classes(photos, tmp_path):
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = without(rows_of(photos), "unlabeled", "test")
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        pq.write_table(table(rows, names), tmp_path / f"train-{number}.parquet")
    with pytest.raises(UsageError, match=r"train-1\.parquet: has other class names than .*train-0\.parquet"):
        data_key(ArrowData(source="parquet", path=str(tmp_path), test=0.2), 0)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (None, r"all.parquet: row 2 \(it is empty\)"),
        ({"bytes": None, "path": None}, r"all.parquet: row 2 \(it is empty\)"),
        ({"bytes": None, "path": "/etc/x.png"}, r"row 2: holds the path of an image and not its bytes; `source: csv`"),
    ],
)
def test_an_image_without_bytes(photos, store, tmp_path, missing, says):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = without(rows_of(photos), "unlabeled")
    images = [missing if n == 2 else {"bytes": file.read_bytes(), "path": "x"} for n, (_, _, file) in enumerate(rows)]
    columns = {"image": images, "label": [label for _, label, _ in rows], "split": [split for split, _, _ in rows]}
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    settings = ArrowData(source="parquet", path=str(tmp_path / "all.parquet"), split="split", **SETTINGS)
    with pytest.raises(CompressError, match=says):
        prepare(settings, store, 0)


def test_saved_folders_that_are_none(tmp_path):
    pytest.importorskip("pyarrow")
    settings = ArrowData(source="hf-dataset", path=str(tmp_path))
    with pytest.raises(UsageError, match=r"holds neither dataset_dict\.json nor state\.json"):
        data_key(settings, 0)
    for name, content, says in (
        ("state.json", "[]", "holds no object"),
        ("state.json", "{}", "names no data files beside it"),
        ("state.json", '{"_data_files": [{"filename": "../../etc/passwd"}]}', "names no data files beside it"),
        ("dataset_dict.json", '{"splits": ["train", "extra"]}', "has the split extra; allowed"),
        ("dataset_dict.json", "{", "dataset_dict.json cannot be read"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(CompressError, match=says):
            data_key(settings, 0)


def test_pyarrow_is_asked_for_when_the_recipe_is_read(monkeypatch):
    text = "data:\n  source: parquet\n  path: x\nstages: [{id: s, kind: train, student: resnet18}]\n"
    monkeypatch.setattr("compress.data.source.version_of", lambda package: None)
    with pytest.raises(
        UsageError, match=r"<recipe>:2: data.source: parquet needs pyarrow: pip install 'compress-model"
    ):
        parse_recipe(text)
    monkeypatch.setattr("compress.data.source.version_of", lambda package: "26")
    parse_recipe(text)


def test_what_datasets_itself_saves(photos, store, tmp_path):
    datasets = pytest.importorskip("datasets")
    groups = split_groups(without(rows_of(photos), "unlabeled"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = {
        split: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": f.read_bytes(), "path": f.name} for _, _, f in rows],
                "label": [label for _, label, _ in rows],
            },
            features=features,
        )
        for split, rows in groups.items()
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    made["train"].to_parquet(str(tmp_path / "train.parquet"))
    made["test"].to_parquet(str(tmp_path / "test.parquet"))
    folder = prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 0)
    for source, path in (("hf-dataset", tmp_path / "saved"), ("parquet", tmp_path / "{train,test}.parquet")):
        found = prepare(ArrowData(source=source, path=str(path), **SETTINGS), store, 0)
        assert found.classes == folder.classes and np.array_equal(found.train.images, folder.train.images)
        assert np.array_equal(found.test.labels, folder.test.labels)


# --- WebDataset ---------------------------------------------------------------------------------------------------


def test_numbers_and_names_beside_images(photos, store, tmp_path):
    rows = without(rows_of(photos), "unlabeled")
    for kind, words in (("cls", {"cat": b"0", "dog": b"1\n"}), ("txt", {"cat": b"cat", "dog": b" dog"})):
        (tmp_path / kind).mkdir()
        for split, group in split_groups(rows).items():
            with tarfile.open(tmp_path / kind / f"{split}-0.tar", "w") as archive:
                for row, (_, label, file) in enumerate(group):
                    add(archive, f"{row:04}.{kind}", words[label])
                    add(archive, f"{row:04}.PNG", file.read_bytes())
        settings = WebData(source="webdataset", path=str(tmp_path / kind / "{train,test}-{0..0}.tar"), label=kind)
        data = prepare(settings.model_copy(update={"classes": ["cat", "dog"], **SETTINGS}), store, 0)
        same(data, prepare(without_unlabeled(photos), store, 0))


def test_a_folder_that_cannot_be_looked_through(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rglob", refuse)
    with pytest.raises(CompressError, match="cannot be read: Permission denied"):
        data_key(WebData(source="webdataset", path=str(tmp_path)), 0)


def test_what_the_system_does_not_tell_of_is_not_called_absent(photos, tmp_path, monkeypatch):
    settings = write_csv(rows_of(photos), tmp_path / "table")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "is_dir", refuse)
    for one in (settings, WebData(source="webdataset", path=str(tmp_path))):
        with pytest.raises(CompressError, match="cannot be read: Permission denied"):
            data_key(one, 0)


def without_unlabeled(photos: Path) -> FolderData:
    shutil.rmtree(photos / "unlabeled", ignore_errors=True)
    return FolderData(source="image-folder", path=str(photos), **SETTINGS)


def test_packed_tars(photos, store, tmp_path):
    plain, packed = write_tars(rows_of(photos), tmp_path / "a"), write_tars(rows_of(photos), tmp_path / "b", "w:gz")
    same(prepare(plain, store, 0), prepare(packed, store, 0))


def test_nothing_is_unpacked_and_links_are_passed_over(photos, store, tmp_path):
    settings = write_tars(rows_of(photos), tmp_path / "packed")
    image = (photos / "train" / "cat" / "00.png").read_bytes()
    with tarfile.open(tmp_path / "packed" / "train-002.tar", "w") as archive:
        for name in ("../../evil", "/tmp/evil-of-compress"):
            add(archive, f"{name}.png", image)
            add(archive, f"{name}.json", b'{"name": "cat"}')
        link = tarfile.TarInfo("b/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    data = prepare(settings, store, 0)
    assert len(data.train) + len(data.validation) == 22 and not Path("/tmp/evil-of-compress.png").exists()
    assert [p for p in sorted(tmp_path.rglob("*")) if p != store.root and store.root not in p.parents] == before
    assert not list(tmp_path.parent.glob("evil*"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.json", b"{", r"train-000.tar: x.json: is no JSON object with 'name'"),
        ("x.json", b'{"name": 1.5}', r"x.json: 'name' is 1.5, not a whole number or text"),
        ("x.json", b'{"name": "bird"}', None),
        ("x.json", b"\xff", r"x.json: is not UTF-8 text"),
        ("x.json", b" " * (2**20 + 1), r"x.json: is 1,048,577 bytes, which no label has"),
        ("x.jpg", b"", r"x.jpg: is the second image of its key"),
    ],
)
def test_wrong_members(photos, tmp_path, name, content, says):
    settings = write_tars(without(rows_of(photos), "unlabeled"), tmp_path / "packed")
    with tarfile.open(tmp_path / "packed" / "train-000.tar", "a") as archive:
        add(archive, "x.png", (photos / "train" / "cat" / "00.png").read_bytes())
        add(archive, name, content)
    with pytest.raises(UsageError, match=says or r"has no test image of bird"):
        data_key(settings, 0)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("test-000.tar", r"has no labelled train images"),
        ("nowhere", r"there is no file .*nowhere"),
        ("train-{0..1}.tar", r"there is no file .*train-0.tar"),
        ("train-{001..000}.tar", r"should be two rising numbers, such as \{000..007\}"),
        ("train-{0..99999999}.tar", r"should be two rising numbers"),
        ("*.tgz", r"there is no file .*\*.tgz"),
        ("empty", r"holds no file that ends in .tar"),
        ("{train-000," + "x" * 300 + "}.tar", r"there is no file .*xxx\.tar"),
        ("{train-000,plain}.tar", r"there is no split in the name of plain.tar"),
    ],
)
def test_wrong_patterns(photos, tmp_path, path, says):
    write_tars(rows_of(photos), tmp_path / "packed")
    (tmp_path / "packed" / "empty").mkdir()
    (tmp_path / "packed" / "plain.tar").write_bytes(b"")
    with pytest.raises(UsageError, match=says):
        data_key(WebData(source="webdataset", path=str(tmp_path / "packed" / path), label="json.name"), 0)
