"""WebDataset tars."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest
from data.packing import SETTINGS, add, assert_same, halves, rows_of, without, write_tars

from compress.data import webdataset
from compress.data.folder import FolderData
from compress.data.prepared import prepare
from compress.data.sources import data_key
from compress.data.webdataset import WebData
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError


def test_cls_and_txt_labels_beside_images_are_read(photos: Path, store: Store, tmp_path: Path) -> None:
    rows = without(rows_of(photos), "unlabeled")
    shutil.rmtree(photos / "unlabeled")
    folder = prepare(FolderData(source="image-folder", path=str(photos), **SETTINGS), store, 0)
    for kind, words in (("cls", {"cat": b"0", "dog": b"1\n"}), ("txt", {"cat": b"cat", "dog": b" dog"})):
        (tmp_path / kind).mkdir()
        for split, (first, second) in halves(rows).items():
            with tarfile.open(tmp_path / kind / f"{split}-0.tar", "w") as archive:
                for number, row in enumerate([*first, *second]):
                    assert row.label
                    add(archive, f"{number:04}.{kind}", words[row.label])
                    add(archive, f"{number:04}.PNG", row.file.read_bytes())
        settings = WebData(source="webdataset", path=str(tmp_path / kind / "{train,test}-{0..0}.tar"), label=kind)
        data = prepare(settings.model_copy(update={"classes": ["cat", "dog"], **SETTINGS}), store, 0)
        assert_same(data, folder)


def test_a_folder_that_cannot_be_listed_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("compress.data.layout.os.scandir", refuse)
    with pytest.raises(CompressError, match="cannot be read: Permission denied"):
        data_key(WebData(source="webdataset", path=str(tmp_path)), 0)


def test_gzipped_tars_give_the_same_data(photos: Path, store: Store, tmp_path: Path) -> None:
    plain, packed = write_tars(rows_of(photos), tmp_path / "a"), write_tars(rows_of(photos), tmp_path / "b", "w:gz")
    assert_same(prepare(plain, store, 0), prepare(packed, store, 0))


def test_gzipped_tars_cannot_stay_in_their_files(photos: Path, store: Store, tmp_path: Path) -> None:
    packed = write_tars(rows_of(photos), tmp_path / "b", "w:gz").model_copy(update={"images": "files"})
    with pytest.raises(
        UsageError, match=r"test-000\.tar\.gz is compressed, .*; decompress the shards, or set `images: p"
    ):
        prepare(packed, store, 0)


def test_headers_are_read_once(photos: Path, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, cache = write_tars(rows_of(photos), tmp_path / "packed"), tmp_path / "fingerprints.json"
    read: list[str] = []
    original = webdataset.open_archive
    monkeypatch.setattr(webdataset, "open_archive", lambda file: read.append(file.name) or original(file))
    key = data_key(settings, 0, cache)
    assert len(read) == 6 and (tmp_path / "headers.json").exists()
    for names in ([], ["train-001.tar"]):  # as in another process; then one shard has changed
        webdataset._SAMPLES.clear()
        read.clear()
        assert (data_key(settings, 0, cache) == key) == (not names)
        assert read == names
        prepare(settings, store, 0)
        assert read == names
        with tarfile.open(tmp_path / "packed" / "train-001.tar", "a") as archive:
            add(archive, "x.png", (photos / "train" / "cat" / "00.png").read_bytes())
            add(archive, "x.json", b'{"name": "cat"}')


def test_nothing_is_unpacked_and_links_are_ignored(photos: Path, store: Store, tmp_path: Path) -> None:
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
        ("x.json", b"{", r"train-000.tar: x.json: not a JSON object with 'name'"),
        ("x.json", b'{"name": 1.5}', r"x.json: 'name' is 1.5, not a whole number or text"),
        ("x.json", b'{"name": "bird"}', None),
        ("x.json", b"\xff", r"x.json: not UTF-8 text"),
        ("x.json", b" " * (2**20 + 1), r"x.json: 1,048,577 bytes are too many for a label"),
        ("x.jpg", b"", r"x.jpg: second image of its key"),
    ],
)
def test_a_wrong_member_is_named(photos: Path, tmp_path: Path, name: str, content: bytes, says: str | None) -> None:
    settings = write_tars(without(rows_of(photos), "unlabeled"), tmp_path / "packed")
    with tarfile.open(tmp_path / "packed" / "train-000.tar", "a") as archive:
        add(archive, "x.png", (photos / "train" / "cat" / "00.png").read_bytes())
        add(archive, name, content)
    with pytest.raises(UsageError, match=says or r"no test image of bird"):
        data_key(settings, 0)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("test-000.tar", r"no labelled train images found"),
        ("nowhere", r"file .*nowhere not found"),
        ("train-{0..1}.tar", r"file .*train-0.tar not found"),
        ("train-{001..000}.tar", r"must be two ascending numbers, such as \{000..007\}"),
        ("train-{0..99999999}.tar", r"must be two ascending numbers"),
        ("*.tgz", r"file .*\*.tgz not found"),
        ("empty", r"no file with the extension .tar"),
        ("{train-000," + "x" * 300 + "}.tar", r"file .*xxx\.tar not found"),
        ("{train-000,plain}.tar", r"no split in the name of plain.tar"),
    ],
)
def test_a_pattern_without_shards_is_refused(photos: Path, tmp_path: Path, path: str, says: str) -> None:
    write_tars(rows_of(photos), tmp_path / "packed")
    (tmp_path / "packed" / "empty").mkdir()
    (tmp_path / "packed" / "plain.tar").write_bytes(b"")
    with pytest.raises(UsageError, match=says):
        data_key(WebData(source="webdataset", path=str(tmp_path / "packed" / path), label="json.name"), 0)
