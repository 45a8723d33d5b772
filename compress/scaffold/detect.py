"""Detect which source reads the user's images, and return the settings that a recipe would give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from compress.data import arrow, csv_file, webdataset
from compress.data.arrow import ArrowData
from compress.data.csv_file import CsvData
from compress.data.folder import FolderData
from compress.data.image_io import ENDINGS, exists, is_file, is_folder
from compress.data.layout import find_parts, subfolders
from compress.data.listing import list_images
from compress.data.names import parts_in
from compress.data.patterns import is_pattern, part_of
from compress.data.saved_dataset import saved_shards
from compress.data.shards import find_shards
from compress.data.tree import image_files
from compress.data.webdataset import WebData
from compress.recipe.data import FileData
from compress.scaffold.split_column import Values, columns_not_taken, find_split
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import located, truncate_list
from compress.utils.system import version_of

TEST_SHARE = 0.2
IMAGE_COLUMNS = (
    *("path", "image", "file", "filename", "file_name"),
    *("filepath", "file_path", "image_path", "img", "photo"),
    *("image_name", "img_name", "img_path", "image_id", "id"),
)
LABEL_COLUMNS = (
    *("label", "class", "category", "target", "species"),
    *("labels", "class_name", "category_name", "y", "name"),
    *("breed", "variety", "diagnosis"),
)
CONTAINERS = frozenset(
    (
        *("image", "images", "img", "imgs", "photo", "photos", "picture", "pictures", "data", "files", "jpg", "png"),
        *("mask", "masks", "annotation", "annotations", "segmentation", "segmentations", "thumbnails"),
    )
)
"""Names of folders of files, in lower case, which are not classes where a table has labels."""
LABEL_MEMBERS = ("cls", "txt", "json")


def detect_source(path: str) -> FileData:
    """Return settings that read the images in `path`, with a held-out test share if there is no test split.

    Raises:
        CompressError: a file or folder cannot be read.
        UsageError: no source reads what is there; the message says what would be read.
    """
    settings = _detect(path)
    if isinstance(settings, FolderData):
        has_test = "test" in find_parts(Path(path), without_test=True)
    else:
        has_test = "test" in list_images(settings).parts
    return settings if has_test else settings.model_copy(update={"test": TEST_SHARE})


def tables_left_out(settings: FileData) -> list[str]:
    """Describe the tables beside the images that are not read, one line each with the reason."""
    where = Path(settings.path)
    if not is_folder(where) and not isinstance(settings, CsvData):
        return []
    folder = where if is_folder(where) else where.parent
    read = {table for table, _ in csv_file.tables(settings.path)} if isinstance(settings, CsvData) else set()
    lines = []
    for table in _tables(folder):
        if table not in read:
            _, problem = _columns_of_csv(table)
            reason = str(problem).partition("; ")[0] if problem else f"to read it, run `init {table}`"
            reason = reason.removeprefix(f"{table}:1: ").replace(f"{table}:", "line ").removeprefix(f"{table} ")
            lines.append(f"{table.name} is not read: {reason}")
    return lines


def split_columns_left_out(settings: FileData) -> Iterator[str]:
    """Say which columns of a table are not read as the split though they are named like one, a sentence each."""
    if isinstance(settings, CsvData) and not settings.split:
        tables = csv_file.tables(settings.path)
        if len(tables) == 1:
            table = tables[0][0]
            yield from columns_not_taken(csv_file.columns_of(table), _values_of_csv(table))
    elif isinstance(settings, ArrowData) and not settings.split:
        shards = _arrow_shards(settings.source, settings.path)
        if all(part == "train" for _, part in shards):
            first = shards[0][0]
            yield from columns_not_taken(arrow.columns_of(first)[1], lambda column: arrow.values_of(first, column))


def _values_of_csv(table: Path) -> Values:
    return lambda column: {cells[column] for _, cells in csv_file.read_table(table, column, [])}


def _detect(path: str) -> FileData:
    given = Path(path)
    name = given.name.lower()
    if is_folder(given):
        return _folder(given)
    if name.endswith(".parquet"):
        return _arrow("parquet", path)
    if name.endswith(webdataset.SHARDS):
        return _webdataset(path)
    if name.endswith(csv_file.TABLES) and (exists(given) or is_pattern(given)):
        return _csv([table for table, _ in csv_file.tables(path)], path)
    if not exists(given):
        raise UsageError(f"{located(given)} does not exist; give a folder of images, or a CSV, Parquet or tar file")
    raise UsageError(f"{given} is neither a folder of images nor a CSV, Parquet or tar file")


def _folder(folder: Path) -> FileData:
    if is_file(folder / "dataset_dict.json") or is_file(folder / "state.json"):
        return _arrow("hf-dataset", str(folder))
    tables, first_image = _tables(folder), next(image_files(folder), None)
    if first_image and (not tables or _has_class_folders(folder, tables)):
        return FolderData(source="image-folder", path=str(folder))
    if tables:
        return _tables_of_splits(folder, tables)
    if any(folder.rglob("*.parquet")):
        return _arrow("parquet", str(folder))
    if any(file.name.lower().endswith(webdataset.SHARDS) for file in folder.rglob("*.t*")):
        return _webdataset(str(folder))
    raise UsageError(f"{folder}: no image ({' '.join(sorted(ENDINGS))}), and no CSV, Parquet or tar file either")


def _tables(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in csv_file.TABLES and is_file(file))


def _has_class_folders(folder: Path, tables: Sequence[Path]) -> bool:
    """Whether the images of a folder are sorted into class folders, beside which a table is only an addition."""
    try:
        parts = find_parts(folder, without_test=True)
    except UsageError:
        return False
    train = parts["train"]
    names = [name for name in subfolders(folder / train) if train != "." or name not in parts.values()]
    usable = any(not problem for _, problem in map(_columns_of_csv, tables))
    return len(names) > 1 and not (usable and all(map(_is_container, names)))


def _is_container(name: str) -> bool:
    """Whether a folder has the name of a split or of a kind of files, as `train_images` or `masks`, and of no class."""
    return bool(parts_in(name)) or name.lower() in CONTAINERS


def _tables_of_splits(folder: Path, tables: Sequence[Path]) -> FileData:
    """Settings of the tables of a folder that list images with labels: one, or one for each split."""
    found = {table: _columns_of_csv(table) for table in tables}
    problems = {table: problem for table, (_, problem) in found.items() if problem}
    usable = [table for table in tables if table not in problems]
    if not usable:
        raise problems[tables[0]]
    words = {table: part_of(table.name) for table in usable}
    for table, problem in problems.items():  # no other table is read as train in its place
        if not found[table][0] and part_of(table.name) == "train" and "train" not in words.values():
            raise problem
    if len(usable) == 1:
        return _csv(usable, str(usable[0]))
    splits = [table for table in usable if words[table]]
    if "train" not in words.values() or len({words[table] for table in splits}) < len(splits):
        raise UsageError(
            f"{folder}: {truncate_list(table.name for table in usable)} all list images with labels; give one of them, "
            "or name them train.csv, val.csv and test.csv"
        )
    if len(splits) == 1:
        return _csv(splits, str(splits[0]))
    return _csv(splits, f"{folder}/{{{','.join(table.name for table in splits)}}}")


def _columns_of_csv(table: Path) -> tuple[dict[str, str | None], CompressError | None]:
    """Return the columns of a table by what they hold, none if it cannot be read; and why it is not one to read."""
    try:
        columns = csv_file.columns_of(table)
    except CompressError as error:
        return {}, error
    found = {
        "image": _first_of(IMAGE_COLUMNS, columns),
        "label": _first_of(LABEL_COLUMNS, columns),
    }
    for kind, what, name in (("image", "paths", "path"), ("label", "labels", "label")):
        if found[kind] is None:
            message = f"{table}:1: no column of {what} among {truncate_list(columns)}; name it '{name}'"
            return found, UsageError(message)
    return found, None


def _csv(tables: Sequence[Path], path: str) -> FileData:
    columns, problem = _columns_of_csv(tables[0])
    if problem:
        raise problem
    if len(tables) == 1:
        columns["split"] = find_split(csv_file.columns_of(tables[0]), _values_of_csv(tables[0]))
    return CsvData.model_validate({"source": "csv", "path": path, **columns})


def _arrow(source: str, path: str) -> FileData:
    if version_of("pyarrow") is None:
        raise UsageError(f"{path}: {source} needs pyarrow: pip install 'compress-model[data]'")
    shards = _arrow_shards(source, path)
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
    split = None if has_splits else find_split(columns, lambda column: arrow.values_of(first, column))
    settings = {"source": source, "path": path, "image": image, "label": label, "split": split}
    return ArrowData.model_validate(settings)


def _arrow_shards(source: str, path: str) -> list[tuple[Path, str]]:
    return find_shards(path, (".parquet",)) if source == "parquet" else saved_shards(Path(path))


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
