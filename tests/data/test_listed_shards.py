"""What is known of shards by their listing alone: by a service, or in a manifest."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
from data.packing import plain_images, rows_of, table, write_tars

from compress.data import object_names, remote_shards
from compress.data.known_contents import contents_id, recall
from compress.data.manifest import read_manifest
from compress.data.object_names import matching
from compress.data.patterns import MAX_SHARDS, alternatives
from compress.data.planned_manifest import planned_manifest
from compress.data.prepared import prepare
from compress.data.remote_shards import RemoteShard, RemoteShards, download, list_remote
from compress.data.sources import data_key
from compress.data.webdataset import SHARDS, WebData
from compress.data.write_manifest import write_manifest
from compress.store.shared import ObjectInfo, SharedFolder
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError

pytestmark = pytest.mark.usefixtures("shard_cache", "bucket")


@pytest.fixture
def local(tmp_path: Path) -> WebData:
    return write_tars(rows_of(plain_images(tmp_path / "photos")), tmp_path / "tars")


def with_manifest(settings: Any, **changes: object) -> Any:
    """Write a manifest beside local shards, with `changes` to each line, and return the settings with its path."""
    path = Path(settings.path) / "m.jsonl"
    records = write_manifest(settings.path, str(path))
    lines = [record.model_dump(exclude_none=True) | changes for record in records]
    path.write_text("\n".join(map(json.dumps, lines)))
    return settings.model_copy(update={"path": str(path), "classes": ["cat", "dog"]})


def test_shards_of_two_urls_have_one_identity_only_by_their_digests() -> None:
    shard = RemoteShard("a.tar", "train", 7, "Mon, 30 Nov 2026")
    assert RemoteShards("s3://a", (shard,)).identity != RemoteShards("s3://b", (shard,)).identity
    shard = RemoteShard("a.tar", "train", 7, None, "0" * 64)
    assert RemoteShards("s3://a", (shard,)).identity == RemoteShards("s3://b", (shard,)).identity


def test_shards_of_which_only_the_size_is_known_are_refused(local: WebData, bucket: SharedFolder) -> None:
    remote = RemoteShards(bucket.url, (RemoteShard("a.tar", "train", 7, None),))
    with pytest.raises(UsageError, match=r"birds/: the service states neither ETag nor time of a\.tar, .*; put a mani"):
        download(remote)
    bucket.write("m.jsonl", b'{"file": "a.tar", "images": 1, "bytes": 7}')
    with pytest.raises(UsageError, match=r"m\.jsonl: neither `sha256` nor `etag` of a\.tar; write it with"):
        data_key(local.model_copy(update={"path": f"{bucket.url}/m.jsonl"}), 0)


def test_a_service_that_states_no_size_is_refused(bucket: SharedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket._files, "find", lambda *_, **__: {"/bucket/birds/a.tar": {"size": None}})
    assert bucket.listing() == [ObjectInfo("a.tar", None, None)]
    monkeypatch.setattr(remote_shards, "SharedFolder", lambda url: bucket)
    with pytest.raises(UsageError, match=r"does not state the size of a\.tar; over HTTP, name the shards by braces"):
        list_remote(bucket.url, SHARDS)


def test_contents_of_a_local_manifest_without_digests_are_not_kept(local: WebData, tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store"), tmp_path / "photos" / "relabelled"
    cache = store.root / "fingerprints.json"
    listed = with_manifest(local)
    key = prepare(listed, store, 0).key
    assert recall(listed, cache) is not None and planned_manifest(listed, store.root, 0).key == key
    listed = with_manifest(local, sha256=None)
    key = prepare(listed, store, 0).key
    assert recall(listed, cache) is None and planned_manifest(listed, store.root, 0).key != key
    before = contents_id(listed)
    swapped = {"cat": "dog", "dog": "cat"}
    rows = [type(row)(row.split, swapped.get(str(row.label)), row.file) for row in rows_of(tmp_path / "photos")]
    for file in Path(write_tars(rows, other).path).glob("*.tar"):
        file.replace(Path(local.path) / file.name)
    list_remote.cache_clear()
    assert contents_id(listed) == before and prepare(listed, store, 0).key != key


@pytest.mark.parametrize("test", [None, 0.2])
def test_a_split_column_decides_once_the_shards_have_been_read(test: float | None, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    from compress.data.arrow import ArrowData

    rows, folder = rows_of(plain_images(tmp_path / "photos")), tmp_path / "packed"
    folder.mkdir()
    splits = pa.array([row.split for row in rows])
    pq.write_table(table(rows, ["cat", "dog"]).append_column("split", splits), folder / "0.parquet")
    settings = ArrowData(source="parquet", path=str(folder), resolution=16, split="split", test=test)
    listed, store = with_manifest(settings), Store(tmp_path / "store")
    with pytest.raises(UsageError, match=r"data\.split: the column 'split' decides .*; set `path` to the folder"):
        planned_manifest(listed, store.root, 0)
    data = prepare(listed, store, 0)
    planned = planned_manifest(listed, store.root, 0)
    assert planned.key == data.key
    for name in ("train", "unlabeled", "validation", "test"):
        assert len(getattr(planned, name)) == len(getattr(data, name)), name


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('"images": true, "bytes": 1', "m.jsonl:1: images: Input should be a valid integer"),
        ('"images": 1, "bytes": "7"', "m.jsonl:1: bytes: Input should be a valid integer"),
        (f'"images": {2**53}, "bytes": 1', "m.jsonl:1: images: Input should be less than"),
        (f'"images": 1, "bytes": {10**30}', "m.jsonl:1: bytes: Input should be less than"),
        (f'"images": {10**400}, "bytes": 1', "m.jsonl:1: images: "),
        (f'"images": {10**12 + 1}, "bytes": 1', "m.jsonl lists more than 1,000,000,000,000 images"),
        ('"images": 1, "bytes": 1, "file": "../a.tar"', "m.jsonl:1: file: must be a path below"),
    ],
)
def test_numbers_of_a_manifest_are_whole_and_bounded(change: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(f'{{"file": "a.tar", {change}}}')
    with pytest.raises(UsageError, match=re.escape(says)):
        read_manifest(str(tmp_path / "m.jsonl"))


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_without_an_end_gets_no_manifest(mode: str, local: WebData, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "tars" / "train-000.tar") as archive:
        end = archive.getmembers()[2].offset
    content = (tmp_path / "tars" / "train-000.tar").read_bytes()[:end]
    if mode == "w:gz":
        import gzip

        content = gzip.compress(content)
    (tmp_path / "cut.tar").write_bytes(content)
    says = rf"cut\.tar cannot be read: it is damaged or cut off at byte {end:,}"
    for work in (
        lambda: write_manifest(str(tmp_path / "cut.tar"), str(tmp_path / "m.jsonl")),
        lambda: data_key(local.model_copy(update={"path": str(tmp_path / "cut.tar"), "test": 0.2}), 0),
    ):
        with pytest.raises(CompressError, match=says):
            work()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*-{2..1000}.tar", "b-2.tar a-10.tar"),
        ("{b,a}*.tar", "b-2.tar a-1.tar a-10.tar"),
        ("{a,a-1}*.tar", "a-1.tar a-10.tar"),
        ("{a-{1,10},b-2}.tar", "a-1.tar b-2.tar a-10.tar"),
        ("[ab]-?.{tar,tar}", "a-1.tar b-2.tar"),
        ("c/*.tar", "c/a-1.tar"),
    ],
)
def test_patterns_of_objects_keep_the_order_of_their_alternatives(
    pattern: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [ObjectInfo(name, 1, "v") for name in ("a-1.tar", "a-10.tar", "b-2.tar", "c/a-1.tar")]
    if "1000" in pattern:
        objects += [ObjectInfo(f"z-{number}.tar", 1, "v") for number in range(2, 1001) if number != 10]
    monkeypatch.setattr(SharedFolder, "listing", lambda folder: objects)
    names = [each.name for each in matching("memory://bucket", pattern)]
    assert [name for name in names if not name.startswith("z")] == found.split()
    with pytest.raises(UsageError, match=r"bucket/: d-\*, e-\* not found"):
        matching("memory://bucket", "{a,d,e}-*")


def test_a_listing_is_compared_with_a_pattern_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    matches = object_names._matches

    def counted(tokens: Any, name: str, start: int) -> Any:
        calls.append(name)
        return matches(tokens, name, start)

    objects = [ObjectInfo(f"train-{number:03}-{number % 7}.tar", 1, "v") for number in range(200)]
    monkeypatch.setattr(SharedFolder, "listing", lambda folder: objects)
    monkeypatch.setattr(object_names, "_matches", counted)
    assert matching("memory://bucket", "train-{000..199}-*.tar") == objects
    assert len(calls) < 20 * len(objects)


def test_braces_stand_for_a_limited_number_of_names() -> None:
    assert len(list(alternatives("{000..999}-{00..99}"))) == MAX_SHARDS
    with pytest.raises(UsageError, match=r"\{0\.\.9999\}-\{0\.\.9999\} stands for more than 100,000 names; use a man"):
        list(alternatives("{0..9999}-{0..9999}"))
