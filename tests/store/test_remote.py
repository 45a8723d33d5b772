"""Stores on object stores: `memory://`, one that fails and answers late, and emulators of services on loopback."""

from __future__ import annotations

import errno
import json
import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from object_stores import PLANTED, SERVICES, ObjectStore, in_memory

from compress.store import shared
from compress.store.failures import failed_attempts, forget_failures, record_failure
from compress.store.gc import clean, entries
from compress.store.leases import VARIABLE
from compress.store.manifest import MANIFEST
from compress.store.origin import claim_run, local_runs, upload_run
from compress.store.remote import ORIGIN, Remote
from compress.store.remote_gc import keys_named_there
from compress.store.remote_lease import RemoteLease
from compress.store.shared import SharedFolder
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError
from compress.utils.urls import check_url, is_url

KEYS = [f"{number:024x}" for number in range(6)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setattr(shared, "PAUSE_S", 0.001)


def memory(monkeypatch: pytest.MonkeyPatch) -> str:
    return f"{in_memory(monkeypatch)}/runs/store"


def unreliable(monkeypatch: pytest.MonkeyPatch) -> str:
    """Every fourth call fails before or after it has done its work, and each takes a moment."""
    url, draw = memory(monkeypatch), random.Random(0)
    call = SharedFolder._call

    def fails_now_and_then(folder: SharedFolder, function: Any, *arguments: Any, **options: Any) -> Any:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            time.sleep(draw.uniform(0, 0.004))
            if draw.random() < 0.12:
                raise TimeoutError("no answer")
            result = function(*args, **kwargs)
            if draw.random() < 0.12:
                raise ConnectionResetError("the answer was lost")
            return result

        return call(folder, wrapped, *arguments, **options)

    monkeypatch.setattr(SharedFolder, "_call", fails_now_and_then)
    return url


@pytest.fixture(params=["memory", "unreliable", *SERVICES])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param in SERVICES:
        store: ObjectStore = request.getfixturevalue("emulator")(request.param)
        store.use(monkeypatch)
        return f"{store.new_bucket()}/runs/store"
    return {"memory": memory, "unreliable": unreliable}[request.param](monkeypatch)


def clone(root: Path, url: str) -> Store:
    """Return the store of a machine of its own."""
    root.mkdir(parents=True)
    (root / ORIGIN).write_text(url)
    return Store(root)


def make(folder: Path) -> None:
    (folder / "deep").mkdir(exist_ok=True)
    (folder / "deep" / "a.bin").write_bytes(b"1234" * 1000)
    (folder / "b.txt").write_text("text")


def test_an_entry_made_on_one_machine_is_there_on_another(url: str, tmp_path: Path) -> None:
    one, two = clone(tmp_path / "1", url), clone(tmp_path / "2", url)
    assert not one.exists(KEYS[0]) and not one.has(KEYS[0])
    one.get(KEYS[0], "it", make)
    assert two.exists(KEYS[0]) and not (two.path(KEYS[0])).exists()
    folder, stored = two.get(KEYS[0], "it", make)
    assert stored and (folder / "deep" / "a.bin").read_bytes() == b"1234" * 1000
    assert sorted(path.name for path in folder.iterdir()) == ["b.txt", "deep", MANIFEST]
    assert (one.path(KEYS[0]) / MANIFEST).read_bytes() == (folder / MANIFEST).read_bytes()
    remote = Remote.of(two.root)
    assert remote and remote.all_keys() == {KEYS[0]} and remote.damage(KEYS[0]) is None
    assert not [name for name in remote.folder.names() if name.startswith("locks")]
    two.discard(KEYS[0])
    assert not remote.all_keys() and not remote.folder.names()


def test_damage_of_an_object_is_noticed_and_the_entry_rebuilt(url: str, tmp_path: Path) -> None:
    clone(tmp_path / "1", url).get(KEYS[0], "it", make)
    remote = Remote.of(tmp_path / "1")
    assert remote
    for number, (end, content) in enumerate([("a.bin", b"4321"), ("b.txt", b"TEXT"), (MANIFEST, b"{}")], 2):
        name = next(name for name in remote.folder.names() if name.endswith(end))
        remote.folder.write(name, content)
        assert remote.damage(KEYS[0])
        store = clone(tmp_path / str(number), url)
        folder, stored = store.get(KEYS[0], "it", make)
        assert not stored and (folder / "b.txt").read_text() == "text" and remote.damage(KEYS[0]) is None
    remote.folder.delete(next(name for name in remote.folder.names() if name.endswith("b.txt")))
    assert remote.damage(KEYS[0]) == "b.txt is missing"


def test_an_entry_without_its_manifest_is_absent_and_its_files_go(url: str, tmp_path: Path) -> None:
    store = clone(tmp_path / "1", url)
    assert store.remote
    store.remote.folder.write(f"{KEYS[0]}/0123456789abcdef/b.txt", b"of a worker that was killed")
    assert not store.exists(KEYS[0]) and not store.has(KEYS[0])
    store.get(KEYS[0], "it", make)
    assert len(store.remote.folder.names(KEYS[0])) == 3


def test_workers_share_the_work_and_nothing_is_published_twice(url: str, tmp_path: Path) -> None:
    made: list[str] = []
    stores = [clone(tmp_path / str(number), url) for number in range(3)]

    def work(store: Store) -> None:
        left = list(KEYS)
        while left:
            for key in list(left):
                if (done := store.offer(key, key, lambda folder: (time.sleep(0.02), make(folder))[1])) is not None:
                    left.remove(key)
                    if done:
                        made.append(key)
            time.sleep(0.01)

    threads = [threading.Thread(target=work, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    remote = stores[0].remote
    assert remote and sorted(remote.all_keys()) == KEYS and sorted(made) == KEYS
    assert len(remote.folder.names()) == 3 * len(KEYS) and not any(map(remote.damage, KEYS))


def test_a_lease_has_one_holder_and_expires(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SharedFolder(url)
    one, two = RemoteLease(folder, "k"), RemoteLease(folder, "k")
    assert one.claim() and not two.claim() and not one.overtaken and two.overtaken
    time.sleep(1.4)
    assert not two.claim() and not one.overtaken  # it is renewed
    monkeypatch.setattr(RemoteLease, "renew", lambda lease, count: None)  # it gives no sign of life
    until = time.monotonic() + 20
    while not two.claim():
        assert time.monotonic() < until
        time.sleep(0.1)
    assert one.overtaken and not two.overtaken
    one.release()
    assert not two.overtaken and not RemoteLease(folder, "k").claim()
    two.release()
    assert one.holder is None


def test_what_is_made_while_the_service_is_away_is_published_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, made = clone(tmp_path / "1", memory(monkeypatch)), []
    call = SharedFolder._call
    with monkeypatch.context() as patch:

        def away(folder: Path) -> None:
            def fails(*_: object, **__: object) -> None:
                raise CompressError("no answer")

            patch.setattr(SharedFolder, "_call", fails)
            time.sleep(1.5)  # longer than the lease
            made.append(1)
            make(folder)

        with pytest.raises(CompressError, match="no answer"):
            store.offer(KEYS[0], "it", away)
    assert SharedFolder._call is call
    folder, stored = Store(store.root).get(KEYS[0], "it", lambda folder: pytest.fail("it is made already"))
    assert not stored and made == [1] and (folder / "b.txt").is_file()


def test_a_late_second_maker_of_other_bits_takes_what_is_there(url: str, tmp_path: Path) -> None:
    one, two = clone(tmp_path / "1", url), clone(tmp_path / "2", url)

    def overtaken(folder: Path) -> None:
        assert one.remote and two.remote
        one.remote.folder.delete(f"locks/{KEYS[0]}.json")
        two.get(KEYS[0], "it", make)
        (folder / "b.txt").write_text("other")

    folder, stored = one.get(KEYS[0], "it", overtaken)
    assert stored and (folder / "b.txt").read_text() == "text"
    assert one.remote and len(one.remote.folder.names()) == 3


def test_no_answer_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    store = clone(tmp_path / "1", memory(monkeypatch))
    assert store.remote

    def fail(*_: object, **__: object) -> None:
        raise ConnectionError("unreachable")

    monkeypatch.setattr(type(store.remote.folder._files), "exists", fail)
    with pytest.raises(CompressError, match=r"memory://bucket/runs/store: no answer after 6 attempts \(ConnectionErr"):
        store.has(KEYS[0])

    def deny(*_: object, **__: object) -> None:
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(type(store.remote.folder._files), "exists", deny)
    with pytest.raises(CompressError, match=r"denied \(AccessDenied\); check the credentials in the environment"):
        store.has(KEYS[0])


def test_cleaning_beside_a_maker_and_an_upload(url: str, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    store, other = clone(runs / "store", url), clone(tmp_path / "other", url)
    for key in KEYS[:3]:
        other.get(key, key, make)
    assert store.remote and other.remote
    lease = other.remote.lease(KEYS[1])
    assert lease.claim()  # it is being made
    assert store.has(KEYS[2])  # a job of this machine uses it
    other.remote.folder.write(f"{KEYS[5]}/0123456789abcdef/b.txt", b"of an upload under way")
    listed = {entry.key: entry for entry in entries(store.root)}
    assert set(listed) == set(KEYS[:3]) and listed[KEYS[0]].bytes == 4004
    assert abs(listed[KEYS[0]].used - time.time()) < 3600
    assert clean(runs, older_than=timedelta(hours=1)) == []
    assert [entry.key for entry in clean(runs, max_size=0)] == [KEYS[0]]
    assert other.remote.all_keys() == {KEYS[1], KEYS[2]} and other.remote.folder.names(KEYS[5])
    lease.release()
    for name in ("b.txt", MANIFEST):
        assert any(each.endswith(name) for each in other.remote.folder.names(KEYS[1]))


def test_failures_are_seen_on_all_machines(url: str, tmp_path: Path) -> None:
    one, two = clone(tmp_path / "1", url), clone(tmp_path / "2", url)
    for number in range(2):
        record_failure(one.root, KEYS[0], "it", f"reason {number}", "Traceback", final=False)
    assert [each.error for each in failed_attempts(two.root, KEYS[0])] == ["reason 0", "reason 1"]
    forget_failures(two.root, KEYS[0])
    assert failed_attempts(one.root, KEYS[0]) == []


def test_names_of_runs_are_taken_once(url: str, tmp_path: Path) -> None:
    for number in range(3):
        clone(tmp_path / str(number) / "store", url)
    folders = [tmp_path / str(number) / "recipe" / "20260101-000000" for number in range(3)]
    assert [claim_run(folder.parent.parent, folder) for folder in folders] == [True, False, False]


@pytest.mark.parametrize(
    ("about", "version"),
    [
        (
            {"mtime": datetime(2026, 1, 2, tzinfo=UTC), "updated": "2026-01-02T00:00:00.123Z", "etag": "gs"},
            "gs",
        ),  # gcsfs
        ({"updated": "2026-01-02T00:00:00Z"}, "1767312000.0"),
        ({"last_modified": datetime(2026, 1, 2, tzinfo=UTC), "content_settings": {}}, "1767312000.0"),  # adlfs
        ({"LastModified": datetime(2026, 1, 2, tzinfo=UTC), "ETag": '"s3"'}, "s3"),
        ({"mtime": 1767312000, "created": 1.5}, "1767312000.0"),  # local
    ],
)
def test_times_of_services_are_read(about: dict[str, Any], version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SharedFolder(memory(monkeypatch))
    found = {f"{folder._base}/a": {"name": "a", "size": 1, **about}}
    monkeypatch.setattr(folder._files, "find", lambda *_, **__: found)
    assert folder.objects() == {"a": (1, 1767312000.0)}
    assert [each.version for each in folder.listing()] == [version]


def test_only_finished_runs_are_the_newest_of_their_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    clone(runs / "store", memory(monkeypatch))
    for number, key in enumerate(KEYS[:3]):
        folder = runs / "recipe" / f"2026010{number}-000000"
        folder.mkdir(parents=True)
        assert claim_run(runs, folder)
        failed = ["int8"] if number == 2 else []
        (folder / "log.jsonl").write_text(f'{{"key": "{key}"}}\n{json.dumps({"event": "done", "failed": failed})}\n')
        upload_run(runs, folder)
    assert claim_run(runs, runs / "recipe" / "20260109-000000")  # and is killed
    assert keys_named_there(runs, 1) == set(KEYS[1:3])  # the newest lacks a stage, and is not counted
    assert keys_named_there(runs) == set(KEYS[:3])


def test_several_keys_are_looked_up(url: str, tmp_path: Path) -> None:
    one, two = clone(tmp_path / "1", url), clone(tmp_path / "2", url)
    one.get(KEYS[0], "it", make)
    assert two.existing(KEYS) == {KEYS[0]}
    assert KEYS[0] in two.existing([*KEYS, *(f"{number:024x}" for number in range(100, 140))])
    assert one.existing([]) == set()


@pytest.mark.parametrize("scheme", SERVICES)
def test_faults_of_this_machine_and_a_missing_bucket_are_told(
    scheme: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, emulator: Callable[[str], ObjectStore]
) -> None:
    server = emulator(scheme)
    server.use(monkeypatch)
    url = f"{server.new_bucket()}/runs/store"
    store = clone(tmp_path / "1", url.replace("bucket-", "absent-"))
    with pytest.raises(CompressError, match=rf"{scheme}://absent-.* does not exist; create its bucket or container"):
        store.get(KEYS[0], "it", make)
    full = clone(tmp_path / "2", url)
    full.get(KEYS[0], "it", make)
    other, attempts = clone(tmp_path / "3", url), []
    assert other.remote

    def fails(*_: object, **__: object) -> None:
        attempts.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(other.remote.folder._files, "get_file", fails)
    with pytest.raises(OSError, match="No space"):
        other.has(KEYS[0])
    assert attempts == [1]


class HttpError(Exception):
    """An error as services raise it: with a status, in one of three attributes."""

    def __init__(self, message: str, **status: int) -> None:
        super().__init__(message)
        self.__dict__.update(status)


@pytest.mark.parametrize(
    "error",
    [
        PermissionError("Forbidden"),  # s3fs
        OSError("Forbidden: https://storage.googleapis.com/b/o\nsomeone has no access"),  # gcsfs
        HttpError("Invalid Credentials, 401", code=401),  # gcsfs
        HttpError("Server failed to authenticate the request.", status_code=403),  # adlfs
        HttpError("403, message='Forbidden'", status=403),  # aiohttp
    ],
)
def test_refused_calls_are_not_repeated(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = SharedFolder(memory(monkeypatch)), []

    def refuse(*_: object, **__: object) -> None:
        calls.append(1)
        raise error

    monkeypatch.setattr(folder._files, "cat_file", refuse)
    with pytest.raises(CompressError, match=r"access denied \(.*\); check the credentials in the environment"):
        folder.read("a")
    assert calls == [1]


def test_tokens_in_the_errors_of_services_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    folder = SharedFolder(memory(monkeypatch), attempts=1)
    leaky = ConnectionError(f"no route to https://oauth2.googleapis.com/tokeninfo?access_token={PLANTED} (port=443)")

    def fail(*_: object, **__: object) -> None:
        raise leaky

    monkeypatch.setattr(folder._files, "cat_file", fail)
    with pytest.raises(CompressError, match=r"no answer after 1 .*/tokeninfo\?\.\.\. \(port=443\)") as read:
        folder.read("a")
    monkeypatch.setattr(fsspec.core, "url_to_fs", fail)
    with pytest.raises(CompressError, match=r"cannot be opened .*/tokeninfo\?\.\.\. \(port=443\)") as opened:
        SharedFolder("gs://bucket/runs")
    assert PLANTED not in f"{read.value}{opened.value}"


def test_missing_credentials_of_azure_are_told(
    monkeypatch: pytest.MonkeyPatch, emulator: Callable[[str], ObjectStore]
) -> None:
    server = emulator("az")
    server.use(monkeypatch)
    url = server.new_bucket()
    wrong = server.variables["AZURE_STORAGE_CONNECTION_STRING"].replace("AccountKey=", "AccountKey=AAAA")
    files = type(SharedFolder(url)._files)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    files.clear_instance_cache()
    with pytest.raises(CompressError, match=r"az://bucket-.*: access denied \(.*; check the credentials in the env"):
        SharedFolder(url).read("a")
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    files.clear_instance_cache()
    with pytest.raises(CompressError, match=r"az://bucket-.*: no credentials found \(.*\); set them in the environmen"):
        SharedFolder(url)


def test_urls(tmp_path: Path) -> None:
    assert is_url("s3://bucket/runs") and not is_url("runs") and not is_url("file:///runs") and not is_url("C:runs")
    assert is_url("S3://bucket/x") and is_url("s3:/bucket") and is_url("simplecache::s3://x/y")
    for text in (
        "s3://id:secret@bucket/runs",
        "s3://AKIA:wJal/secret@bucket/runs",
        "S3://AKIA:secret@bucket/runs",
        "s3://secret@bucket/runs",
        "s3://key:secret/runs",
        "az://x/runs?sig=secret",
        "s3://x/runs#secret",
    ):
        with pytest.raises(UsageError, match="credentials do not belong in a URL") as raised:
            check_url(text)
        assert "secret" not in str(raised.value)
    for text in ("simplecache::s3://id:secret@x/y", "s3:x"):
        with pytest.raises(UsageError, match=r"chained URLs are not supported; write s3://bucket/folder") as raised:
            check_url(text)
        assert "secret" not in str(raised.value)
    for text in ("s3://", "s3:/bucket", "s3:// /"):
        with pytest.raises(UsageError, match=r"s3: names no folder; write it as in s3://bucket/runs"):
            check_url(text)
    for text in ("s3://bucket/runs", "abfs://container@account.dfs.core.windows.net/x", "http://127.0.0.1:9000/x"):
        check_url(text)
    assert local_runs("file:///tmp/a%20b") == local_runs("file://localhost/tmp/a%20b") == Path("/tmp/a b")
    assert local_runs("file:///tmp/a#1") == Path("/tmp/a#1")
    assert local_runs("runs/x") == Path("runs/x")
    with pytest.raises(UsageError, match=r"nosuch://x/runs: Protocol not known: nosuch; use s3://, gs://, az:// or a"):
        SharedFolder("nosuch://x/runs")
