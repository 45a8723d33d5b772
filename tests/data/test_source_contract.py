"""Contract of every data source, whatever packs the images. A new source needs a writer in `packing.py`, no test."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from data.packing import SETTINGS, WRITERS, Row, Writer, assert_same, grey, packer, plain_images, rows_of, without
from PIL import Image

from compress import registry
from compress.data.folder import FolderData
from compress.data.image_io import decode
from compress.data.prepared import SPLITS, prepare
from compress.data.sources import data_key
from compress.data.torchvision_sets import PUBLISHED
from compress.recipe import parse_recipe
from compress.recipe.data import DataSection, FileData, Views
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

RECIPE = "data: {{source: {name}{more}}}\nstages: [{{id: s, kind: train, student: resnet18}}]\n"


@pytest.fixture(params=list(WRITERS))
def write(request: pytest.FixtureRequest) -> Writer:
    return packer(request.param)


@pytest.fixture(params=list(WRITERS))
def packed(request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> FileData:
    return packer(request.param)(rows_of(photos), tmp_path / "packed")


def folder(photos: Path, **settings: object) -> FolderData:
    return FolderData(source="image-folder", path=str(photos), **{**SETTINGS, **settings})  # type: ignore[arg-type]


def refused(settings: DataSection, kind: type[CompressError] = CompressError) -> str:
    """The one line with which the key of a source is refused."""
    with pytest.raises(kind) as caught:
        data_key(settings, 0)
    assert "\n" not in str(caught.value) and str(caught.value).isprintable()
    return str(caught.value)


# --- What a source declares ---------------------------------------------------------------------------------------


def test_every_source_of_image_files_is_tested_here() -> None:
    assert {name for name in registry.SOURCES if registry.source(name).list_images} == set(WRITERS)


@pytest.mark.parametrize("name", registry.SOURCES)
def test_a_recipe_can_name_the_source(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = registry.source(name)
    monkeypatch.setattr("compress.data.source.version_of", lambda package: "1")
    more = ", path: x" if issubclass(source.section, FileData) else ""
    data = parse_recipe(RECIPE.format(name=name, more=more)).data
    assert type(data) is source.section and data.source == name
    assert name in get_args(source.section.model_fields["source"].annotation)
    assert source.about and "\n" not in source.about


@pytest.mark.parametrize("name", [name for name in registry.SOURCES if registry.source(name).packages])
def test_an_absent_package_is_reported_with_the_recipe(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compress.data.source.version_of", lambda package: None)
    needed = ", ".join(registry.source(name).packages)
    with pytest.raises(UsageError, match=rf"<recipe>:1: data\.source: {name} needs {needed}: pip install 'compress-m"):
        parse_recipe(RECIPE.format(name=name, more=", path: x"))


def test_declarations_need_neither_torch_nor_the_packages_of_a_source() -> None:
    code = (
        "import sys; from compress import registry; from compress.data import prepared\n"
        "for name in registry.SOURCES: registry.source(name)\n"
        "assert not {'torch', 'torchvision', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


# --- The same images give the same data ---------------------------------------------------------------------------


def test_the_same_images_give_the_same_data(photos: Path, store: Store, packed: FileData) -> None:
    grey(photos / "train" / "cat" / "02.png", 7)
    data = prepare(packed, store, 3)
    assert data.classes == ("cat", "dog") and data.resolution == 16 and data.skipped == 0
    assert [len(split) for split in (data.train, data.unlabeled, data.validation, data.test)] == [18, 4, 2, 6]
    expected = [decode(photos / "test" / name / f"0{n}.png", 16) for name in ("cat", "dog") for n in range(3)]
    assert np.array_equal(data.test.images, expected) and data.test.labels is not None
    assert data.test.labels.tolist() == [0, 0, 0, 1, 1, 1]


def test_every_source_agrees_with_the_image_folder(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    grey(photos / "train" / "cat" / "02.png", 7)
    for name in ("cat", "dog"):
        (photos / "val" / name).mkdir(parents=True)
        (photos / "train" / name / "03.png").rename(photos / "val" / name / "03.png")
    found = prepare(write(rows_of(photos), tmp_path / "packed"), store, 3)
    assert len(found.validation) == 2 and len(found.train) == 18
    assert_same(prepare(folder(photos), store, 3), found)


def test_grey_images_have_three_equal_channels(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    for number, file in enumerate(sorted((photos / "test").rglob("*.png"))):
        grey(file, number)
    images = prepare(write(rows_of(photos), tmp_path / "packed"), store, 0).test.images
    assert np.array_equal(images[:, 0], images[:, 1]) and np.array_equal(images[:, 0], images[:, 2])


def test_test_and_validation_splits_are_cut_alike(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    shutil.rmtree(photos / "test")
    packed = write(rows_of(photos, without_test=True), tmp_path / "packed")
    assert "`test: 0.2` in data cuts a fifth off" in refused(packed, UsageError)
    found = prepare(packed.model_copy(update={"test": 0.3}), store, 1)
    assert found.test.labels is not None and found.train.labels is not None
    assert np.bincount(found.test.labels).tolist() == [3, 3] and np.bincount(found.train.labels).tolist() == [6, 6]
    assert_same(prepare(folder(photos, test=0.3), store, 1), found)


@pytest.fixture
def jpegs(tmp_path: Path) -> Path:
    """20 photographs of each class without a test split, large enough that `images: files` halves them."""
    for number in range(40):
        noise = np.random.default_rng(number).integers(0, 256, (9, 9, 3), np.uint8)
        file = tmp_path / "jpegs" / "train" / ("cat", "dog")[number % 2] / f"{number:02}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise).resize((120, 100)).save(file)
    return tmp_path / "jpegs"


def test_the_cut_test_split_depends_on_files_alone(jpegs: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    """A network of one run must never meet its own train images in the test split of another."""
    packed = write(rows_of(jpegs, without_test=True), tmp_path / "packed").model_copy(update={"test": 0.3})
    files = {}
    for change in ({}, {"resolution": 24}, {"images": "files"}, {"images": "files", "resolution": 24}):
        data = prepare(packed.model_copy(update=change), store, 0)
        assert data.originals and len(data.test) == 12
        files[str(change)] = [
            image if isinstance(image, bytes) else image.read_bytes()
            for image in data.originals.read("test", range(12))
        ]
    first, *others = files.values()
    assert others == [first] * 3
    lowest = sorted((hashlib.sha256(file.read_bytes()).digest(), file) for file in (jpegs / "train" / "cat").iterdir())
    assert set(first) >= {file.read_bytes() for _, file in lowest[:6]}


def test_copies_of_a_file_stay_on_one_side(jpegs: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    files = sorted((jpegs / "train" / "cat").iterdir(), key=lambda file: hashlib.sha256(file.read_bytes()).digest())
    copied = files[5]  # the last of the 6 test images of its class
    shutil.copy(copied, jpegs / "train" / "cat" / "copy.jpg")
    shutil.copy(copied, jpegs / "train" / "dog" / "copy.jpg")
    packed = write(rows_of(jpegs, without_test=True), tmp_path / "packed").model_copy(update={"test": 0.29})
    data = prepare(packed.model_copy(update={"resolution": 32}), store, 0)
    wanted = decode(copied, 32)
    count = {split: sum(np.array_equal(image, wanted) for image in getattr(data, split).images) for split in SPLITS}
    assert count == {"train": 0, "unlabeled": 0, "validation": 0, "test": 3}


def test_a_test_share_is_ignored_where_there_is_a_test_split(packed: FileData) -> None:
    assert data_key(packed.model_copy(update={"test": 0.2}), 0) == data_key(packed, 0)


def test_labels_are_hidden_class_balanced(packed: FileData, store: Store) -> None:
    data = prepare(packed.model_copy(update={"labeled": 6}), store, 0)
    assert data.train.labels is not None and np.bincount(data.train.labels).tolist() == [3, 3]
    assert len(data.validation) == 2 and len(data.unlabeled) == 4 + 20 - 6 - 2


def test_without_unlabelled_images_the_split_is_empty(
    photos: Path, store: Store, write: Writer, tmp_path: Path
) -> None:
    data = prepare(write(without(rows_of(photos), "unlabeled"), tmp_path / "packed"), store, 0)
    assert data.unlabeled.images.shape == (0, 3, 16, 16) and data.unlabeled.labels is None


# --- Keys ---------------------------------------------------------------------------------------------------------


def test_the_key_is_of_the_images_and_of_what_changes_pixels_or_splits(
    photos: Path, write: Writer, tmp_path: Path
) -> None:
    packed = write(rows_of(photos), tmp_path / "packed")
    key = data_key(packed, 0)
    for file in shutil.copytree(tmp_path / "packed", tmp_path / "moved").rglob("*"):
        os.utime(file, (1, 1))
    moved = packed.model_copy(update={"path": packed.path.replace("/packed", "/moved")})
    assert data_key(moved, 0) == key
    words = {"templates": ["{}"], "prompts": {"cat": "tabby"}, "views": Views(shift=0.5)}
    assert data_key(packed.model_copy(update=words), 0) == key
    for change in ({"resolution": 24}, {"broken": "skip"}, {"labeled": 4}, {"validation": 0.3}):
        assert data_key(packed.model_copy(update=change), 0) != key
    assert data_key(packed, 1) != key
    first, second, *others = rows_of(photos)
    swapped = [Row(first.split, first.label, second.file), Row(second.split, second.label, first.file), *others]
    assert data_key(write(swapped, tmp_path / "other"), 0) != key
    relabelled = [Row(first.split, "dog", first.file), second, *others]
    assert data_key(write(relabelled, tmp_path / "third"), 0) != key


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "must not be empty"),
        (" ", "must not be empty"),
        ("a\0b", "must not hold a null character"),
        ("file:///a%00b", "must not hold a null character"),
    ],
)
@pytest.mark.parametrize("name", WRITERS)
def test_a_recipe_cannot_name_no_path(name: str, path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        registry.source(name).section.model_validate({"source": name, "path": path})


@pytest.mark.parametrize(("path", "says"), [("", "must not be empty"), ("a\0b", "must not hold a null character")])
def test_a_recipe_cannot_name_no_folder_to_download_into(path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        registry.source("cifar10").section.model_validate({"source": "cifar10", "root": path})


def test_a_name_that_no_file_can_have_is_refused(packed: FileData) -> None:
    for path in ("a\0b", "a\0b.jsonl"):
        refused(packed.model_copy(update={"path": path}))


def test_prompts_of_an_unknown_class_are_refused(packed: FileData) -> None:
    line = refused(packed.model_copy(update={"prompts": {"dog": "puppy", "catt": "tabby"}}), UsageError)
    assert line == "data.prompts: unknown class 'catt'; did you mean 'cat'?"
    line = refused(packed.model_copy(update={"prompts": {"horse": "pony"}}), UsageError)
    assert line == "data.prompts: unknown class 'horse'; classes: cat, dog"


def test_the_key_is_of_the_release_of_the_decoder(any_source: DataSection, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []
    for version in ("13.0.0", "13.0.1", "13.1.0", "14.0.0"):
        monkeypatch.setattr("compress.data.image_io.version_of", lambda package, version=version: version)
        keys.append(data_key(any_source, 0))
    assert keys[0] == keys[1] and len(set(keys)) == (3 if isinstance(any_source, FileData) else 1)


def test_the_key_is_the_same_in_every_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Store entries of earlier versions are found again; what changes these keys must raise `data.sources.VERSION`."""
    monkeypatch.setattr("compress.data.image_io.version_of", lambda package: "13.0.0")
    rows = rows_of(plain_images(tmp_path / "images"))
    pinned = {
        "image-folder": "4ac0728d3f1e5c81a8e9b808",
        "csv": "4ac0728d3f1e5c81a8e9b808",
        "webdataset": "53e4163ac7ba021fe1625047",
    }
    keys = {}
    for name in pinned:
        settings = packer(name)(rows, tmp_path / name).model_copy(update={"validation": 0.3})
        keys[name] = data_key(settings, 5)
    assert keys == pinned


def test_a_second_key_reads_no_image_and_finds_what_changed(
    packed: FileData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from compress.data import digests

    cache = tmp_path / "cache" / "digests.json"
    key = data_key(packed, 0, cache)
    read: list[Path] = []
    original = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: read.append(path) or original(path))
    assert data_key(packed, 0, cache) == data_key(packed, 0, cache) == key and not read
    for damage in ("{", "[]", '{"a": 3}'):
        cache.write_text(damage)
        assert data_key(packed, 0, cache) == key and read


@pytest.fixture(params=list(registry.SOURCES))
def any_source(request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> DataSection:
    """Settings of every source in the registry, for files that are there."""
    source = registry.source(request.param)
    if source.list_images:
        return packer(request.param)(rows_of(photos), tmp_path / "packed")
    if request.param not in PUBLISHED:
        return source.section.model_validate({"source": request.param})
    published = PUBLISHED[request.param]
    for name in published.files:
        file = tmp_path / published.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    return source.section.model_validate({"source": request.param, "root": str(tmp_path), "download": False})


def test_no_image_is_decoded_for_the_key(any_source: DataSection, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("an image was opened")

    monkeypatch.setattr("PIL.Image.open", refuse)
    assert data_key(any_source, 0) == data_key(any_source, 0)


# --- Broken images, missing classes, empty sources -------------------------------------------------------------------


@pytest.fixture
def broken(photos: Path) -> Path:
    """Photos of which one is no image, one is cut short and one is empty."""
    (photos / "train" / "cat" / "03.png").write_bytes(b"nothing")
    whole = (photos / "train" / "dog" / "04.png").read_bytes()
    (photos / "train" / "dog" / "04.png").write_bytes(whole[:100])
    (photos / "unlabeled" / "sub0" / "0.png").write_bytes(b"")
    return photos


def test_broken_images_are_refused_by_name(broken: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    packed = write(rows_of(broken), tmp_path / "packed")
    with pytest.raises(CompressError, match=r"remove it, or set data.broken to skip") as caught:
        prepare(packed, store, 0)
    assert "\n" not in str(caught.value) and str(tmp_path / "packed") in str(caught.value)
    assert not [path for path in store.root.iterdir() if (path / "data.json").exists()], "nothing is stored"


def test_broken_images_are_skipped_and_counted(broken: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    packed = write(rows_of(broken), tmp_path / "packed").model_copy(update={"broken": "skip"})
    data = prepare(packed, store, 0)
    assert data.skipped == 3 and len(data.train) + len(data.validation) == 18 and len(data.unlabeled) == 3
    assert_same(prepare(folder(broken, broken="skip"), store, 0), data)


def test_a_class_of_which_every_image_is_broken_is_refused(
    photos: Path, store: Store, write: Writer, tmp_path: Path
) -> None:
    for file in (photos / "test" / "dog").iterdir():
        file.write_bytes(b"")
    packed = write(rows_of(photos), tmp_path / "packed").model_copy(update={"broken": "skip"})
    with pytest.raises(CompressError, match=r"test: no images left of dog"):
        prepare(packed, store, 0)


def test_one_class_is_refused(photos: Path, write: Writer, tmp_path: Path) -> None:
    cats = [row for row in rows_of(photos) if row.label == "cat"]
    assert "expected two or more class" in refused(write(cats, tmp_path / "packed"), UsageError)


def test_a_class_that_a_split_lacks_is_named(photos: Path, write: Writer, tmp_path: Path) -> None:
    rows = [row for row in rows_of(photos) if (row.split, row.label) != ("test", "dog")]
    line = refused(write(rows, tmp_path / "packed"), UsageError)
    assert "dog" in line and "test" in line


def test_only_validation_may_lack_a_class(photos: Path, store: Store, write: Writer, tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (photos / "val" / name).mkdir(parents=True)
        (photos / "train" / name / "03.png").rename(photos / "val" / name / "03.png")
    rows = [row for row in rows_of(photos) if (row.split, row.label) != ("validation", "dog")]
    data = prepare(write(rows, tmp_path / "packed"), store, 0)
    assert data.validation.labels is not None and data.validation.labels.tolist() == [0]
    assert data.classes == ("cat", "dog") and len(data.train) == 18


def test_an_empty_source_is_refused(write: Writer, tmp_path: Path) -> None:
    assert str(tmp_path / "packed") in refused(write([], tmp_path / "packed"))


def test_a_source_that_does_not_exist_is_refused(packed: FileData, tmp_path: Path) -> None:
    line = refused(packed.model_copy(update={"path": str(tmp_path / "nowhere" / "it")}))
    assert str(tmp_path / "nowhere" / "it") in line


def test_files_that_may_not_be_read_are_reported(packed: FileData, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("compress.data.digests.file_digest", refuse)
    assert "cannot be read: Permission denied" in refused(packed)


def test_damaged_shards_are_named(photos: Path, write: Writer, tmp_path: Path) -> None:
    packed = write(rows_of(photos), tmp_path / "packed")
    for file in sorted((tmp_path / "packed").rglob("*")):
        if file.suffix in (".parquet", ".arrow", ".tar"):
            content = file.read_bytes()
            for damaged in (content[: len(content) // 2], b"", b"x" * 600):
                file.write_bytes(damaged)
                assert str(tmp_path) in refused(packed)
            return
