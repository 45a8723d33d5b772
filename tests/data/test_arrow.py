"""Parquet files and folders of Hugging Face `datasets`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data.packing import SETTINGS, assert_same, halves, packer, rows_of, table, without

from compress.data.arrow import ArrowData
from compress.data.folder import FolderData
from compress.data.listing import list_images
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError


def test_plain_bytes_text_labels_and_a_split_column_are_read(photos: Path, store: Store, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = rows_of(photos)
    columns = {
        "picture": [row.file.read_bytes() for row in rows],
        "kind": pa.array([row.label for row in rows]).dictionary_encode(),
        "fold": [row.split for row in rows],
    }
    pq.write_table(pa.table(columns), tmp_path / "all.parquet", row_group_size=5)
    settings = ArrowData(
        source="parquet", path=str(tmp_path / "all.parquet"), image="picture", label="kind", split="fold", **SETTINGS
    )
    folder = FolderData(source="image-folder", path=str(photos), **SETTINGS)
    assert_same(prepare(settings, store, 0), prepare(folder, store, 0))


@pytest.mark.parametrize("form", ["parquet", "hf-dataset"])
def test_classes_in_another_order_are_found_by_their_names(
    photos: Path, store: Store, tmp_path: Path, form: str
) -> None:
    settings = packer(form)(rows_of(photos), tmp_path / "packed")
    data = prepare(settings, store, 0)
    turned = prepare(settings.model_copy(update={"classes": ["dog", "cat"]}), store, 0)
    assert turned.classes == ("dog", "cat") and not turned.notes
    assert np.array_equal(turned.test.images, data.test.images)
    assert turned.test.labels is not None and data.test.labels is not None
    assert turned.test.labels.tolist() == (1 - data.test.labels).tolist()
    assert len(turned.unlabeled) == len(data.unlabeled) == 4


def test_new_names_are_remarked_on_and_names_at_other_places_refused(photos: Path, tmp_path: Path) -> None:
    settings = packer("parquet")(rows_of(photos), tmp_path / "packed")
    listing = list_images(settings.model_copy(update={"classes": ["cat", "puppy"]}))
    assert listing.classes == ("cat", "puppy") and listing.counts("test") == [3, 3]
    assert listing.notes == ("`classes` are in place of the labels' own names: puppy for dog.",)
    with pytest.raises(UsageError, match=r"data\.classes has cat at other places than .* \(cat, dog\)"):
        list_images(settings.model_copy(update={"classes": ["bird", "cat"]}))


def test_a_column_that_is_there_twice_is_refused(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    found = table(rows_of(photos), ["cat", "dog"])
    pq.write_table(found.append_column("label", found["label"]), tmp_path / "train.parquet")
    with pytest.raises(UsageError, match="2 columns 'label'; rename all but the one that is meant"):
        data_key(ArrowData(source="parquet", path=str(tmp_path), test=0.2, **SETTINGS), 0)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "img"}, r"column 'img' not found.* columns: image, label, extra"),
        ({"label": "labels"}, r"column 'labels' not found; did you mean 'label'\?"),
        ({"image": "label"}, r"the column 'label' is int64, not bytes or a struct that has `bytes`"),
        ({"label": "extra"}, r"row 0: the label 0.5 is not a whole number"),
        ({"label": "image"}, r"the column 'image' is struct.*, not whole numbers or text"),
        ({"split": "label"}, r"row 0: unknown split '0'"),
        ({"classes": ["one", "two", "three"]}, r"no train image of three"),
    ],
)
def test_a_column_that_is_missing_or_of_another_type_is_named(
    photos: Path, tmp_path: Path, change: dict[str, object], says: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    found = table(without(rows_of(photos), "unlabeled", "test"), ["cat", "dog"])
    pq.write_table(found.append_column("extra", pa.array([0.5] * len(found))), tmp_path / "train.parquet")
    settings = ArrowData(source="parquet", path=str(tmp_path), test=0.2, **SETTINGS)
    data_key(settings, 0)
    with pytest.raises(UsageError, match=says):
        data_key(settings.model_copy(update=change), 0)


def test_whole_numbers_beside_gaps_are_floats_in_pandas(photos: Path, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = without(rows_of(photos), "unlabeled", "test")
    images = [row.file.read_bytes() for row in rows]
    labels = [float(row.label == "dog") for row in rows]
    file = tmp_path / "train.parquet"
    for gap in (float("nan"), None):
        pq.write_table(pa.table({"image": images, "label": [gap, *labels[1:]]}), file)
        found = list_images(ArrowData(source="parquet", path=str(file)))
        assert found.classes == ("0", "1") and found.parts["unlabeled"].count == 1
        assert found.counts("train") == [len(rows) // 2 - 1, len(rows) // 2]
    pq.write_table(pa.table({"image": images, "label": [0.5, *labels[1:]]}), file)
    with pytest.raises(UsageError, match=r"train.parquet: row 0: the label 0.5 is not a whole number"):
        list_images(ArrowData(source="parquet", path=str(file)))


def test_shards_with_other_class_names_are_refused(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = without(rows_of(photos), "unlabeled", "test")
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        pq.write_table(table(rows, names), tmp_path / f"train-{number}.parquet")
    with pytest.raises(UsageError, match=r"train-1\.parquet: class names differ from those of .*train-0\.parquet"):
        data_key(ArrowData(source="parquet", path=str(tmp_path), test=0.2), 0)


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (None, r"all.parquet: row 2 \(it is empty\)"),
        ({"bytes": None, "path": None}, r"all.parquet: row 2 \(it is empty\)"),
        (
            {"bytes": None, "path": "/etc/x.png"},
            r"row 2: has the path of an image instead of its bytes; use `source: csv`",
        ),
    ],
)
def test_a_row_without_image_bytes_is_named(
    photos: Path, store: Store, tmp_path: Path, missing: object, says: str
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = without(rows_of(photos), "unlabeled")
    images = [missing if n == 2 else {"bytes": row.file.read_bytes(), "path": "x"} for n, row in enumerate(rows)]
    columns = {"image": images, "label": [row.label for row in rows], "split": [row.split for row in rows]}
    pq.write_table(pa.table(columns), tmp_path / "all.parquet")
    settings = ArrowData(source="parquet", path=str(tmp_path / "all.parquet"), split="split", **SETTINGS)
    with pytest.raises(CompressError, match=says):
        prepare(settings, store, 0)


def test_a_folder_that_datasets_did_not_save_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    settings = ArrowData(source="hf-dataset", path=str(tmp_path))
    with pytest.raises(UsageError, match=r"has neither dataset_dict\.json nor state\.json"):
        data_key(settings, 0)
    for name, content, says in (
        ("state.json", "[]", "expected a JSON object"),
        ("state.json", "{}", "expected a list of distinct data files"),
        ("state.json", '{"_data_files": [{"filename": "../../etc/passwd"}]}', "expected a list of distinct data files"),
        ("dataset_dict.json", '{"splits": ["train", "extra"]}', "unknown split extra; allowed"),
        ("dataset_dict.json", "{", "dataset_dict.json cannot be read"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(CompressError, match=says):
            data_key(settings, 0)


def test_what_datasets_saves_is_read(photos: Path, store: Store, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    groups = halves(without(rows_of(photos), "unlabeled"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = {
        split: datasets.Dataset.from_dict(
            {
                "image": [{"bytes": row.file.read_bytes(), "path": row.file.name} for row in rows],
                "label": [row.label for row in rows],
            },
            features=features,
        )
        for split, (first, second) in groups.items()
        for rows in [[*first, *second]]
    }
    datasets.DatasetDict(made).save_to_disk(str(tmp_path / "saved"))
    made["train"].to_parquet(str(tmp_path / "train.parquet"))
    made["test"].to_parquet(str(tmp_path / "test.parquet"))
    folder = prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 0)
    for source, path in (("hf-dataset", tmp_path / "saved"), ("parquet", tmp_path / "{train,test}.parquet")):
        found = prepare(ArrowData(source=source, path=str(path), **SETTINGS), store, 0)
        assert found.classes == folder.classes and np.array_equal(found.train.images, folder.train.images)
        assert np.array_equal(found.test.labels, folder.test.labels)
