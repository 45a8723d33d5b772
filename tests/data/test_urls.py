"""Shards at URLs: `memory://`, `file://`, HTTP, and emulators of object stores on loopback."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from data.packing import assert_same, packer, rows_of, write_tars

from compress.data import remote_shards
from compress.data.arrow import ArrowData
from compress.data.known_contents import UNRELATED
from compress.data.prepared import prepare
from compress.data.remote_shards import download, list_remote
from compress.data.sources import data_key
from compress.data.webdataset import SHARDS, WebData
from compress.data.write_manifest import write_manifest
from compress.recipe.data import Views
from compress.recipe.load import parse_recipe
from compress.store.shared import SharedFolder
from compress.store.store import Store
from compress.utils.errors import CompressError, RecipeError, UsageError
from compress.utils.processes import host_name, owner_name

pytestmark = pytest.mark.usefixtures("shard_cache")


@pytest.fixture
def local(photos: Path, tmp_path: Path) -> WebData:
    return write_tars(rows_of(photos), tmp_path / "tars")


def put(folder: Path, bucket: SharedFolder) -> None:
    for file in sorted(folder.iterdir()):
        bucket.upload(file, file.name)


def at(settings: Any, path: object) -> Any:
    """Return settings as a recipe has them, with another path."""
    return type(settings).model_validate(settings.model_dump() | {"path": str(path)})


def shards_of(shard_cache: Path) -> list[str]:
    return sorted(path.name for path in shard_cache.rglob("*") if path.is_file())


@pytest.mark.parametrize("source", ["webdataset", "parquet"])
def test_shards_at_a_url_give_the_same_data_and_key_as_local_ones(
    source: str, photos: Path, any_bucket: SharedFolder, shard_cache: Path, tmp_path: Path
) -> None:
    settings = packer(source)(rows_of(photos), tmp_path / "packed")
    put(tmp_path / "packed", any_bucket)
    any_bucket.write("README.md", b"not a shard")
    remote = at(settings, f"{any_bucket.url}/")
    here, there = prepare(settings, Store(tmp_path / "1"), 0), prepare(remote, Store(tmp_path / "2"), 0)
    assert_same(here, there)
    assert here.key == there.key and there.name == "birds"
    assert shards_of(shard_cache) == sorted(path.name for path in (tmp_path / "packed").iterdir())
    lazy = prepare(at(remote.model_copy(update={"images": "files"}), remote.path), Store(tmp_path / "3"), 0)
    assert lazy.train.images[:].shape == here.train.images.shape
    assert data_key(at(settings, f"file://{tmp_path}/packed"), 0) == here.key


def test_patterns_stand_for_the_same_shards_as_for_local_paths(local: WebData, any_bucket: SharedFolder) -> None:
    put(Path(local.path), any_bucket)
    key = data_key(local, 0)
    for pattern in ("{train,test,unlabeled}-{000..001}.tar", "{train,test,unlabeled}-*.tar", "*-00?.tar"):
        if "?" in pattern:
            with pytest.raises(ValueError, match="credentials do not belong in a URL"):
                at(local, f"{any_bucket.url}/{pattern}")
            continue
        found = list_remote(f"{any_bucket.url}/{pattern}", SHARDS).shards
        assert {each.name for each in found} == {path.name for path in Path(local.path).iterdir()}
        ordered = data_key(at(local, f"{local.path}/{pattern}"), 0)
        assert data_key(at(local, f"{any_bucket.url}/{pattern}"), 0) == ordered
    assert data_key(at(local, any_bucket.url), 0) == key
    (one,) = list_remote(f"{any_bucket.url}/train-000.tar", SHARDS).shards
    assert one.part == "train"


LATER: list[dict[str, Any]] = [
    *({"resolution": 24}, {"broken": "skip"}, {"max_pixels": 9}, {"images": "files"}),
    *({"test": 0.3}, {"validation": 0.3}, {"labeled": 4}, {"views": Views(flip=False)}, {"prompts": {"cat": "tabby"}}),
]
"""Changes of what is made of images, after their shards have been read."""


def test_every_setting_either_decides_what_is_found_or_does_not() -> None:
    """A new setting of image files belongs into one of the two: kept contents of other ones would be taken else."""
    related = {"source", "classes", "label", "image", "split"}
    assert not related & UNRELATED
    assert set(WebData.model_fields) | set(ArrowData.model_fields) == related | UNRELATED


def test_what_was_found_without_a_test_split_is_refused_without_a_share(
    local: WebData, bucket: SharedFolder, tmp_path: Path
) -> None:
    for file in Path(local.path).glob("test-*.tar"):
        file.unlink()
    put(Path(local.path), bucket)
    remote, known = at(local, bucket.url), tmp_path / "fingerprints.json"
    data_key(remote.model_copy(update={"test": 0.3}), 0, known)
    with pytest.raises(UsageError, match=r"no test images found; `test: 0\.2` in data"):
        data_key(remote, 0, known)


def test_what_was_found_in_compressed_shards_is_refused_for_files(
    photos: Path, bucket: SharedFolder, shard_cache: Path, tmp_path: Path
) -> None:
    packed = write_tars(rows_of(photos), tmp_path / "gz", "w:gz")
    put(Path(packed.path), bucket)
    remote, known = at(packed, bucket.url), tmp_path / "fingerprints.json"
    data_key(remote, 0, known)
    with pytest.raises(UsageError, match=r"tar\.gz is compressed, .*; decompress the shards, or set `images: p"):
        data_key(remote.model_copy(update={"images": "files"}), 0, known)


def test_what_was_found_at_a_url_is_remembered_until_a_shard_changes(
    local: WebData, bucket: SharedFolder, shard_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    remote, known = at(local, bucket.url), tmp_path / "fingerprints.json"
    key = data_key(remote, 0, known)
    with monkeypatch.context() as patch:
        patch.setattr("compress.data.shards.download", lambda remote: pytest.fail("it is known"))
        assert data_key(remote, 0, known) == key
        assert data_key(remote.model_copy(update={"workers": 1}), 0, known) == key
        for change in LATER:
            other, here = (each.model_copy(update=change) for each in (remote, local))
            assert data_key(other, 0, known) == data_key(here, 0), change
    bucket.write("unlabeled-000.tar", (Path(local.path) / "unlabeled-001.tar").read_bytes())
    assert data_key(remote, 0, known) != key
    assert len([name for name in shards_of(shard_cache) if name == "unlabeled-000.tar"]) == 2


def test_other_objects_at_a_url_are_counted_as_they_are_now(
    local: WebData, any_bucket: SharedFolder, tmp_path: Path
) -> None:
    put(Path(local.path), any_bucket)
    remote, store = at(local, any_bucket.url), Store(tmp_path / "store")

    def beside() -> dict[str, int]:
        return {row.reason: row.count for row in prepare(remote, store, 0).left_out if row.kind == "file"}

    assert beside() == {}
    for name in ("README.md", "sub/notes.md", "sub/.DS_Store"):
        any_bucket.write(name, b"not a shard")
    assert beside() == {".md": 2, "hidden": 1}, "the shards are known from before"
    folder = Path(local.path)
    (folder / "sub").mkdir()
    for name in ("README.md", "sub/notes.md", "sub/.DS_Store"):
        (folder / name).write_text("not a shard")
    here = prepare(local, store, 0).left_out
    assert {row.reason: row.count for row in here if row.kind == "file"} == {".md": 2, "hidden": 1}


def test_a_killed_download_resumes_with_the_shards_that_it_lacks(
    local: WebData, bucket: SharedFolder, shard_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    monkeypatch.setattr(remote_shards, "DOWNLOADS", 1)
    asked: list[str] = []
    fetch = SharedFolder.download

    def dies(folder: SharedFolder, name: str, target: Path) -> bool:
        asked.append(name)
        if len(asked) == 3:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"half")
            raise KeyboardInterrupt
        return fetch(folder, name, target)

    monkeypatch.setattr(SharedFolder, "download", dies)
    remote = list_remote(bucket.url, SHARDS)
    with pytest.raises(KeyboardInterrupt):
        download(remote)
    assert len(shards_of(shard_cache)) == 2
    third = remote.shards[2]
    left = (
        next(shard_cache.glob("memory-*"))
        / third.identity
        / f".{third.name}.{owner_name(host_name(), 4194999)}.0.partial"
    )
    left.write_bytes(b"of a process that was killed")
    files = download(remote)
    assert asked[3:] == [each.name for each in remote.shards][2:] and not left.exists()
    assert [file.read_bytes() for file in files] == [bucket.read(each.name) for each in remote.shards]
    assert download(remote) == files and len(asked) == 3 + len(files) - 2


def test_two_downloads_at_once_share_the_work(
    local: WebData, bucket: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    asked: list[str] = []
    fetch = SharedFolder.download
    both = threading.Barrier(2, timeout=20)

    def counted(folder: SharedFolder, name: str, target: Path) -> bool:
        asked.append(name)
        return fetch(folder, name, target)

    monkeypatch.setattr(SharedFolder, "download", counted)
    remote = list_remote(bucket.url, SHARDS)
    found: list[list[Path]] = []
    threads = [threading.Thread(target=lambda: (both.wait(), found.append(download(remote)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0] == found[1] and sorted(asked) == [each.name for each in remote.shards]


def test_a_shard_that_changes_or_goes_after_it_was_listed_is_refused(local: WebData, any_bucket: SharedFolder) -> None:
    put(Path(local.path), any_bucket)
    remote = list_remote(any_bucket.url, SHARDS)
    any_bucket.write("train-000.tar", any_bucket.read("train-001.tar") or b"")
    with pytest.raises(
        CompressError, match=r"://bucket.*/birds/train-000\.tar has changed since it was listed: .*; rerun"
    ):
        download(remote)
    any_bucket.delete("train-000.tar")
    with pytest.raises(CompressError, match=r"birds/train-000\.tar not found; check the data set, or write its manif"):
        download(remote)


def test_a_shard_that_changes_while_it_is_downloaded_is_refused(
    local: WebData, bucket: SharedFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    fetch = SharedFolder.download

    def overtaken(folder: SharedFolder, name: str, target: Path) -> bool:
        done = fetch(folder, name, target)
        folder.write(name, b"other")
        return done

    monkeypatch.setattr(SharedFolder, "download", overtaken)
    with pytest.raises(CompressError, match="has changed since it was listed"):
        download(list_remote(bucket.url, SHARDS))


def test_what_does_not_fit_on_the_disk_is_refused_before(
    local: WebData, bucket: SharedFolder, shard_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    monkeypatch.setattr(remote_shards, "free_bytes", lambda folder: 1000)
    says = r"data: cannot download 6 shards of memory://bucket/birds, 0\.00 GB, .* free some space, or set XDG"
    with pytest.raises(CompressError, match=says):
        data_key(at(local, bucket.url), 0)
    assert shards_of(shard_cache) == []


def test_half_a_download_and_a_user_without_a_cache_are_told(
    local: WebData, bucket: SharedFolder, shard_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(Path(local.path), bucket)
    # To the end of the test: other threads may still be at their shard when the first one fails.
    monkeypatch.setattr(SharedFolder, "download", lambda folder, name, target: target.write_bytes(b"half") > 0)
    with pytest.raises(CompressError, match=r"birds/.*\.tar: 4 of \d+,\d+ bytes arrived; run again"):
        download(list_remote(bucket.url, SHARDS))
    assert not list(shard_cache.rglob("*.tar"))
    monkeypatch.setattr(remote_shards, "cache_folder", lambda: None)
    with pytest.raises(UsageError, match=r"no place for a local copy; set XDG_CACHE_HOME to a folder"):
        download(list_remote(bucket.url, SHARDS))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("memory://bucket/birds", r"memory://bucket/birds: no file with the extension \.tar or .*; check the bu"),
        ("memory://bucket/birds/train-000.tar", r"memory://bucket/birds/: train-000\.tar not found; check the bucket"),
        (
            "memory://bucket/birds/{train,test}-*.tar",
            r"birds/: train-\*\.tar, test-\*\.tar not found; check the bucket",
        ),
        ("memory://{a,b}/x.tar", r"the bucket cannot be a pattern; write its name"),
        (
            "memory://bucket/manifest.jsonl",
            r"memory://bucket/manifest\.jsonl not found; write it with",
        ),
        ("nosuch://bucket/x.tar", r"nosuch://bucket: Protocol not known: nosuch; use s3://, gs://, az:// or a local"),
    ],
)
def test_what_is_not_at_a_url_is_one_line(path: str, says: str, bucket: SharedFolder) -> None:
    with pytest.raises(UsageError, match=says):
        data_key(WebData(source="webdataset", path=path), 0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def absent(*_: object, **__: object) -> None:
        raise ImportError("no module")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    for scheme, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("az", "adlfs"), ("https", "aiohttp")):
        with pytest.raises(UsageError, match=f"needs {package}; pip install {package}"):
            data_key(WebData(source="webdataset", path=f"{scheme}://bucket/x.tar"), 0)


RECIPE = "name: it\ndata: {{source: {source}, path: '{path}'}}\nstages: [{{id: a, kind: train}}]\n"


@pytest.mark.parametrize(
    "url", ["s3://id:planted@bucket/x.tar", "https://host/x.tar?sig=planted", "simplecache::s3://id:planted@bucket/x"]
)
def test_credentials_in_a_url_are_refused_before_anything_is_written(url: str) -> None:
    with pytest.raises(RecipeError, match=r"data\.path: ") as raised:
        parse_recipe(RECIPE.format(source="webdataset", path=url))
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize("source", ["image-folder", "csv", "hf-dataset"])
def test_sources_of_other_files_refuse_urls(source: str) -> None:
    with pytest.raises(RecipeError, match=r"`source: .*` reads local files only; copy them, or use webdataset or parq"):
        parse_recipe(RECIPE.format(source=source, path="s3://bucket/photos"))


def test_file_urls_are_paths() -> None:
    for url in ("file:///a%20b/x.tar", "file://localhost/a b/x.tar", "file:/a b/x.tar"):
        assert WebData(source="webdataset", path=url).path == "/a b/x.tar"
    assert WebData(source="webdataset", path="file.tar").path == "file.tar"


def test_shards_are_read_over_http(local: WebData, tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=local.path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        pattern = "{train,test,unlabeled}-{000..001}.tar"
        assert data_key(at(local, f"{url}/{pattern}"), 0) == data_key(at(local, f"{local.path}/{pattern}"), 0)
        with pytest.raises(UsageError, match=r"does not state the size of .*; over HTTP, name the shards by braces"):
            data_key(at(local, url), 0)
        with pytest.raises(UsageError, match="does not state the size of"):
            write_manifest(url, str(tmp_path / "m.jsonl"))
        with pytest.raises(UsageError, match=r"/: other\.tar not found; check the bucket and the names"):
            data_key(at(local, f"{url}/other.tar"), 0)
    finally:
        server.shutdown()
        server.server_close()
