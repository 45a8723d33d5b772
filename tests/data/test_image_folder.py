from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compress.data import digests, tree
from compress.data.folder import FolderData
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.utils.errors import CompressError, UsageError


def section(root: Path, **settings) -> FolderData:
    return FolderData(source="image-folder", path=str(root), **{"resolution": 16, **settings})


def test_the_data_set_is_called_as_its_folder_and_leaves_no_scratch(photos, store):
    data = prepare(section(photos), store, 0)
    assert data.name == "photos" and not (store.root / data.key / "scratch").exists()


def test_val_and_validation_are_the_same_split(photos, store, paint):
    shutil.rmtree(photos / "unlabeled")
    for name in ("cat", "dog"):
        paint(photos / "val" / name / "deep" / "er" / "x.JPG")
    data = prepare(section(photos), store, 0)
    assert len(data.train) == 20 and data.validation.labels.tolist() == [0, 1]
    assert data.unlabeled.images.shape == (0, 3, 16, 16) and data.unlabeled.labels is None
    (photos / "val").rename(photos / "validation")
    assert prepare(section(photos), store, 5).key == data.key


@pytest.mark.parametrize("layout", ["flat", "train only"])
def test_without_a_test_folder_a_share_is_cut_off(photos, store, layout, paint):
    shutil.rmtree(photos / "test")
    if layout == "flat":
        for name in ("cat", "dog"):
            (photos / "train" / name).rename(photos / name)
        (photos / "train").rmdir()
    with pytest.raises(UsageError, match=r"`test: 0.2` in data cuts a fifth off"):
        data_key(section(photos), 0)
    data = prepare(section(photos, test=0.2), store, 0)
    assert data.classes == ("cat", "dog") and len(data.unlabeled) == 4
    assert [np.bincount(s.labels).tolist() for s in (data.train, data.validation, data.test)] == [
        [7, 7],
        [1, 1],
        [2, 2],
    ]
    assert prepare(section(photos, test=0.2), store, 1).key != data.key != data_key(section(photos, test=0.3), 0)
    paint(photos / "loose.png")
    assert layout == "train only" or "is outside of a class folder" in refused(section(photos, test=0.2))


def refused(settings: FolderData) -> str:
    with pytest.raises(UsageError) as caught:
        data_key(settings, 0)
    return str(caught.value)


def test_hidden_files_and_other_types_are_ignored(photos):
    key = data_key(section(photos), 0)
    (photos / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (photos / "train" / "cat" / "notes.txt").write_text("no image")
    (photos / "train" / ".cache").mkdir()
    (photos / "README.md").write_text("mine")
    assert data_key(section(photos), 0) == key


def test_links_are_followed_once(photos, store, tmp_path, paint):
    elsewhere = tmp_path / "elsewhere"
    paint(elsewhere / "far.png", 999)
    (photos / "train" / "cat" / "away").symlink_to(elsewhere)
    (photos / "train" / "cat" / "file.png").symlink_to(elsewhere / "far.png")
    (elsewhere / "back").symlink_to(photos / "train" / "cat")
    (elsewhere / "self").symlink_to(elsewhere / "self")
    data = prepare(section(photos), store, 0)
    assert len(data.train) + len(data.validation) == 22


def test_a_second_key_reads_only_the_image_that_changed(photos, tmp_path, monkeypatch):
    cache = tmp_path / "cache" / "digests.json"
    key = data_key(section(photos), 0, cache)
    read: list[Path] = []
    original = digests.file_digest
    monkeypatch.setattr(digests, "file_digest", lambda path: read.append(path) or original(path))
    changed = photos / "train" / "cat" / "03.png"
    changed.write_bytes(changed.read_bytes() + b"!")
    assert data_key(section(photos), 0, cache) != key and read == [changed]


def break_files(root: Path) -> None:
    (root / "train" / "cat" / "00.png").write_bytes(b"nothing")
    whole = (root / "test" / "dog" / "01.png").read_bytes()
    (root / "test" / "dog" / "01.png").write_bytes(whole[:100])


def test_a_broken_file_is_refused_with_its_path_in_the_folder(photos, store):
    break_files(photos)
    with pytest.raises(CompressError, match=r"train/cat/00.png \(cannot identify.*set data.broken to skip"):
        prepare(section(photos), store, 0)


def test_skipped_files_are_reported_once(photos, store, monkeypatch):
    said: list[str] = []
    monkeypatch.setattr("compress.data.prepared.say", said.append)
    break_files(photos)
    prepare(section(photos, broken="skip"), store, 0)
    assert "skipped 2 files that are not images: train/cat/00.png" in said[0]
    assert prepare(section(photos, broken="skip"), store, 0).skipped == 2 and len(said) == 1


def test_a_killed_run_decodes_again(photos, store, monkeypatch):
    monkeypatch.setattr("compress.data.prepared.split_parts", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        prepare(section(photos), store, 0)
    monkeypatch.undo()
    assert len(prepare(section(photos), store, 0).train) == 18


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def only_ignored(folder: Path) -> None:
    empty(folder)
    (folder / "a.heic").write_bytes(b"x")
    (folder / ".b.png").write_bytes(b"x")


def to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


def add(name: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "test" / "cat" / "00.png", root / name)

    return write


def flatten_test(root: Path) -> None:
    for image in (root / "test").glob("*/*.png"):
        image.rename(root / "test" / f"{image.parent.name}{image.name}")
    for name in ("cat", "dog"):
        (root / "test" / name).rmdir()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (shutil.rmtree, r"photos does not exist; expected train/CLASS/ and test/CLASS/"),
        (to_file, r"photos is a file, not a folder"),
        (lambda r: shutil.rmtree(r / "train"), r"folder train/ not found \(there: test, unlabeled\)"),
        (lambda r: shutil.rmtree(r / "test"), r"folder test/ not found"),
        (empty, r"folder train/ not found \(there: none\)"),
        (lambda r: empty(r / "train"), r"two or more class folders, found none"),
        (lambda r: shutil.rmtree(r / "train" / "cat"), r"two or more class folders, found only dog"),
        (lambda r: empty(r / "train" / "cat"), r"train: no images in cat; every class needs at least one"),
        (lambda r: only_ignored(r / "train" / "dog"), r"train: no images in dog; .*\.jpg"),
        (lambda r: empty(r / "test" / "cat"), r"test: no images in cat"),
        (lambda r: shutil.rmtree(r / "test" / "cat"), r"test: no folder for the class cat of train/"),
        (add("test/bird/a.png"), r"test: the class bird is not in train/"),
        (add("val/cat/a.txt"), r"val: no images in cat, dog; add some or remove the folder"),
        (lambda r: [add(f"{v}/cat/a.png")(r) for v in ("val", "validation")], r"both val/ and validation/; remove one"),
        (add("train/a.png"), r"train/a.png is outside of a class folder; move it to .*/train/CLASS/$"),
        (flatten_test, r"/test/CLASS/; or rename the folder to `unlabeled` if its images have no labels$"),
        (lambda r: only_ignored(r / "unlabeled"), r"unlabeled: no images found"),
    ],
)
def test_a_wrong_layout_is_refused_in_one_line(photos, spoil, says):
    spoil(photos)
    with pytest.raises(UsageError, match=says) as caught:
        data_key(section(photos), 0)
    assert "\n" not in str(caught.value)


def refuse(path, *_):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


def test_a_folder_that_may_not_be_read_is_reported(photos, monkeypatch):
    monkeypatch.setattr(digests, "file_digest", refuse)
    with pytest.raises(CompressError, match=r"00.png cannot be read: Permission denied"):
        data_key(section(photos), 0)
    monkeypatch.setattr(tree.os, "scandir", refuse)
    with pytest.raises(CompressError, match=r"photos cannot be read: Permission denied"):
        data_key(section(photos), 0)
    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(CompressError, match=r"photos cannot be read: Permission denied"):
        data_key(section(photos), 0)


def test_a_link_to_nowhere_is_reported(photos):
    (photos / "train" / "cat" / "gone.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(CompressError, match=r"gone.png cannot be read: No such file"):
        data_key(section(photos), 0)


@pytest.mark.parametrize("link", ["train/dog", "train/cow", "train/ape/cow", "train/dog/more/cow"])
def test_a_link_that_gives_images_two_labels_is_refused(photos: Path, link: str) -> None:
    """Whether the link or the folder comes first, and however deep the link lies."""
    if link == "train/dog":
        shutil.rmtree(photos / link)
    elif link == "train/ape/cow":
        shutil.copytree(photos / "train" / "dog", photos / "train" / "ape")
        shutil.copytree(photos / "test" / "dog", photos / "test" / "ape")
    elif link == "train/cow":
        shutil.copytree(photos / "test" / "dog", photos / "test" / "cow")
    (photos / link).parent.mkdir(exist_ok=True)
    (photos / link).symlink_to(photos / "train" / "cat")
    with pytest.raises(
        UsageError, match=r"train/.* is the folder .*train/.*, so that its images are of .*cat.*; an image"
    ):
        tree.find_images(photos)


def test_a_link_within_a_class_is_read_once_in_each_part(photos: Path) -> None:
    (photos / "train" / "cat" / "again").symlink_to(photos / "train" / "cat")
    (photos / "unlabeled" / "cats").symlink_to(photos / "train" / "cat")
    found = tree.find_images(photos)
    assert len(found.parts["train"][0]) == 20 and len(found.parts["unlabeled"][0]) == 14
    assert [(row.reason, row.count) for row in found.left_out] == [("link to one that is read already", 2)]


def test_pipes_and_devices_are_no_images(photos: Path) -> None:
    os.mkfifo(photos / "train" / "cat" / "pipe.png")
    (photos / "train" / "cat" / "endless.png").symlink_to("/dev/zero")
    (photos / "train" / "cat" / "link.png").symlink_to(photos / "train" / "cat" / "pipe.png")
    assert len(tree.find_images(photos).parts["train"][0]) == 20


def test_folders_nested_too_deeply_are_refused(photos: Path) -> None:
    below = photos / "unlabeled"
    for _ in range(120):
        below /= "d"
    below.mkdir(parents=True)
    with pytest.raises(UsageError, match="folders are nested more than 100 deep"):
        tree.find_images(photos)
