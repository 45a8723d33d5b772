"""Which source reads what a person has, from a look at its files: the settings that a recipe would give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compress.data import arrow, csv_file, webdataset
from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.image_io import ENDINGS, exists, is_file, is_folder
from compress.data.listing import list_images
from compress.data.shards import find_shards
from compress.data.tree import image_files, subfolders
from compress.data.webdataset import WebData
from compress.recipe.data import FileData
from compress.utils.errors import UsageError
from compress.utils.messages import few
from compress.utils.system import version_of

TEST_SHARE = 0.2
IMAGE_COLUMNS = (
    "path",
    "image",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img",
    "photo",
)
LABEL_COLUMNS = (
    "label",
    "class",
    "category",
    "target",
    "species",
    "labels",
    "class_name",
    "category_name",
    "y",
    "name",
)
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold")
LABEL_MEMBERS = ("cls", "txt", "json")


def guess(path: str) -> FileData:
    """Settings with which the images in `path` can be read; a test share where there is no test split.

    Raises:
        CompressError: something cannot be read.
        UsageError: nothing that is there is a source of images; the line says what would be.
    """
    settings = _kind(path)
    if isinstance(settings, FolderData):
        there = subfolders(Path(path))
        return settings if "test" in there else settings.model_copy(update={"test": TEST_SHARE})
    without = "test" not in list_images(settings).parts
    return settings.model_copy(update={"test": TEST_SHARE}) if without else settings


def _kind(path: str) -> FileData:
    given = Path(path)
    name = given.name.lower()
    if is_folder(given):
        return _folder(given)
    if name.endswith(".parquet"):
        return _arrow("parquet", path)
    if name.endswith(webdataset.SHARDS):
        return _tars(path)
    if not exists(given):
        raise UsageError(f"{given} does not exist; give a folder of images, or a CSV, Parquet or tar file")
    if name.endswith((".csv", ".tsv")):
        return _csv(given)
    raise UsageError(f"{given} is neither a folder of images nor a CSV, Parquet or tar file")


def _folder(folder: Path) -> FileData:
    if is_file(folder / "dataset_dict.json") or is_file(folder / "state.json"):
        return _arrow("hf-dataset", str(folder))
    tables = sorted(folder.glob("*.csv"))
    images = next(image_files(folder), None)
    if images and (len(subfolders(folder)) > 1 or not tables):
        return FolderData(source="image-folder", path=str(folder))
    if tables:
        return _csv(tables[0])
    if any(folder.rglob("*.parquet")):
        return _arrow("parquet", str(folder))
    if any(file.name.lower().endswith(webdataset.SHARDS) for file in folder.rglob("*.t*")):
        return _tars(str(folder))
    kinds = " ".join(sorted(ENDINGS))
    raise UsageError(f"{folder} holds no image ({kinds}), and no CSV, Parquet or tar file either")


def _csv(table: Path) -> FileData:
    columns = csv_file.columns_of(table)
    image, label = _one_of(IMAGE_COLUMNS, columns), _one_of(LABEL_COLUMNS, columns)
    if image is None or label is None:
        what = "paths" if image is None else "labels"
        raise UsageError(f"{table}:1: no column is called as one of {what} would be; there are: {few(columns)}")
    split = _one_of(SPLIT_COLUMNS, columns)
    return CsvData(source="csv", path=str(table), image=image, label=label, split=split)


def _arrow(source: str, path: str) -> FileData:
    if version_of("pyarrow") is None:
        raise UsageError(f"{path}: {source} needs pyarrow: pip install 'compress-model[data]'")
    shards = find_shards(path, (".parquet",)) if source == "parquet" else arrow.saved_shards(Path(path))
    images, columns = arrow.columns_of(shards[0][0])
    image = _one_of(IMAGE_COLUMNS, images) or next(iter(images), None)
    label = _one_of(LABEL_COLUMNS, [name for name in columns if name != image])
    if image is None or label is None:
        what = "holds images" if image is None else "is called as one of labels would be"
        raise UsageError(f"{shards[0][0]}: no column {what}; there are: {few(columns)}")
    split = _one_of(SPLIT_COLUMNS, columns) if not any(part != "train" for _, part in shards) else None
    settings = {"source": source, "path": path, "image": image, "label": label, "split": split}
    return ArrowData.model_validate(settings)


def _tars(path: str) -> FileData:
    first = find_shards(path, webdataset.SHARDS)[0][0]
    endings, fields = webdataset.kinds_of(first)
    label = next((kind for kind in LABEL_MEMBERS if kind in endings), None)
    if label is None:
        raise UsageError(f"{first}: no .cls, .txt or .json lies beside its images; it has {few(sorted(endings))}")
    if label == "json":
        field = _one_of(LABEL_COLUMNS, fields)
        if field is None:
            raise UsageError(f"{first}: no field of its .json is called as a label would be; there are: {few(fields)}")
        label = f"json.{field}"
    return WebData(source="webdataset", path=path, label=label)


def _one_of(wanted: Sequence[str], there: Sequence[str]) -> str | None:
    """The first wanted name that is there, in any case of letters."""
    known = {name.strip().lower(): name for name in reversed(there)}
    return next((known[name] for name in wanted if name in known), None)
