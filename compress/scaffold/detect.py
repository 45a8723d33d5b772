"""Detect which source reads the user's images, and return the settings that a recipe would give."""

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
from compress.utils.messages import truncate_list
from compress.utils.system import version_of

TEST_SHARE = 0.2
IMAGE_COLUMNS = (
    *("path", "image", "file", "filename", "file_name"),
    *("filepath", "file_path", "image_path", "img", "photo"),
)
LABEL_COLUMNS = (
    *("label", "class", "category", "target", "species"),
    *("labels", "class_name", "category_name", "y", "name"),
)
SPLIT_COLUMNS = ("split", "subset", "set", "partition", "fold")
LABEL_MEMBERS = ("cls", "txt", "json")


def detect_source(path: str) -> FileData:
    """Return settings that read the images in `path`, with a held-out test share if there is no test split.

    Raises:
        CompressError: a file or folder cannot be read.
        UsageError: no source reads what is there; the message says what would be read.
    """
    settings = _detect(path)
    if isinstance(settings, FolderData):
        has_test = "test" in subfolders(Path(path))
    else:
        has_test = "test" in list_images(settings).parts
    return settings if has_test else settings.model_copy(update={"test": TEST_SHARE})


def _detect(path: str) -> FileData:
    given = Path(path)
    name = given.name.lower()
    if is_folder(given):
        return _folder(given)
    if name.endswith(".parquet"):
        return _arrow("parquet", path)
    if name.endswith(webdataset.SHARDS):
        return _webdataset(path)
    if not exists(given):
        raise UsageError(f"{given} does not exist; give a folder of images, or a CSV, Parquet or tar file")
    if name.endswith((".csv", ".tsv")):
        return _csv(given)
    raise UsageError(f"{given} is neither a folder of images nor a CSV, Parquet or tar file")


def _folder(folder: Path) -> FileData:
    if is_file(folder / "dataset_dict.json") or is_file(folder / "state.json"):
        return _arrow("hf-dataset", str(folder))
    tables = sorted(folder.glob("*.csv"))
    first_image = next(image_files(folder), None)
    if first_image and (len(subfolders(folder)) > 1 or not tables):
        return FolderData(source="image-folder", path=str(folder))
    if tables:
        return _csv(tables[0])
    if any(folder.rglob("*.parquet")):
        return _arrow("parquet", str(folder))
    if any(file.name.lower().endswith(webdataset.SHARDS) for file in folder.rglob("*.t*")):
        return _webdataset(str(folder))
    raise UsageError(f"{folder}: no image ({' '.join(sorted(ENDINGS))}), and no CSV, Parquet or tar file either")


def _csv(table: Path) -> FileData:
    columns = csv_file.columns_of(table)
    image, label = _first_of(IMAGE_COLUMNS, columns), _first_of(LABEL_COLUMNS, columns)
    if image is None:
        raise UsageError(f"{table}:1: no column of paths among {truncate_list(columns)}; name it 'path'")
    if label is None:
        raise UsageError(f"{table}:1: no column of labels among {truncate_list(columns)}; name it 'label'")
    split = _first_of(SPLIT_COLUMNS, columns)
    return CsvData(source="csv", path=str(table), image=image, label=label, split=split)


def _arrow(source: str, path: str) -> FileData:
    if version_of("pyarrow") is None:
        raise UsageError(f"{path}: {source} needs pyarrow: pip install 'compress-model[data]'")
    shards = find_shards(path, (".parquet",)) if source == "parquet" else arrow.saved_shards(Path(path))
    first = shards[0][0]
    image_columns, columns = arrow.columns_of(first)
    image = _first_of(IMAGE_COLUMNS, image_columns) or next(iter(image_columns), None)
    if image is None:
        raise UsageError(
            f"{first}: no column of images among {truncate_list(columns)}; store each image's file as bytes"
        )
    label = _first_of(LABEL_COLUMNS, [name for name in columns if name != image])
    if label is None:
        raise UsageError(f"{first}: no column of labels among {truncate_list(columns)}; name it 'label'")
    has_splits = any(part != "train" for _, part in shards)
    split = None if has_splits else _first_of(SPLIT_COLUMNS, columns)
    settings = {"source": source, "path": path, "image": image, "label": label, "split": split}
    return ArrowData.model_validate(settings)


def _webdataset(path: str) -> FileData:
    first = find_shards(path, webdataset.SHARDS)[0][0]
    endings, fields = webdataset.kinds_of(first)
    label = next((kind for kind in LABEL_MEMBERS if kind in endings), None)
    if label is None:
        raise UsageError(
            f"{first}: no labels among {truncate_list(sorted(endings))}; add a .cls, .txt or .json file per image"
        )
    if label == "json":
        field = _first_of(LABEL_COLUMNS, fields)
        if field is None:
            raise UsageError(
                f"{first}: no label among the fields of its .json, {truncate_list(fields)}; name it 'label'"
            )
        label = f"json.{field}"
    return WebData(source="webdataset", path=path, label=label)


def _first_of(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the first wanted name that is among `names`, ignoring case."""
    by_lower = {name.strip().lower(): name for name in reversed(names)}
    return next((by_lower[name] for name in wanted if name in by_lower), None)
