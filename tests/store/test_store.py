"""Entries of the store: made once, resumed, verified."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compress.store.manifest import MANIFEST, Manifest, read_manifest
from compress.store.store import Store


def fill(text: str):
    def make(folder: Path) -> None:
        (folder / "a.txt").write_text(text)
        (folder / "deep").mkdir(exist_ok=True)
        (folder / "deep" / "b.bin").write_bytes(text.encode() * 100)

    return make


def test_an_entry_is_made_once(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder, taken = store.get("k", "it", fill("one"))
    assert not taken and (folder / "a.txt").read_text() == "one"
    again, taken = Store(tmp_path).get("k", "it", fill("two"))
    assert taken and again == folder and (again / "a.txt").read_text() == "one"


def test_a_failure_leaves_no_entry_and_is_resumed(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.get("k", "it", fails)
    assert not store.has("k")

    def resume(folder: Path) -> None:
        assert (folder / "half").read_text() == "half"
        (folder / "scratch").mkdir()
        (folder / "scratch" / "state").write_text("not part of the entry")

    folder, _ = store.get("k", "it", resume)
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "half"]


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_is_noticed_and_the_entry_rebuilt(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path_factory.mktemp("store")
    folder, _ = Store(root).get("k", "it", fill("good"))
    victim = data.draw(st.sampled_from([folder / "a.txt", folder / "deep" / "b.bin", folder / MANIFEST]))
    content = bytearray(victim.read_bytes())
    how = data.draw(st.sampled_from(["flip", "cut", "delete", "empty"]))
    if how == "flip":
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 2))
        victim.write_bytes(content)
    elif how == "cut":
        victim.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    elif how == "delete":
        victim.unlink()
    else:
        victim.write_bytes(b"")
    store = Store(root)
    assert not store.has("k")
    folder, taken = store.get("k", "it", fill("good"))
    assert not taken and (folder / "a.txt").read_text() == "good" and Store(root).has("k")


def test_a_second_maker_waits_and_takes_the_result(tmp_path: Path) -> None:
    inside, go_on = threading.Event(), threading.Event()
    made = []

    def slow(folder: Path) -> None:
        inside.set()
        assert go_on.wait(10)
        made.append("first")
        fill("first")(folder)

    first = threading.Thread(target=lambda: Store(tmp_path).get("k", "it", slow))
    first.start()
    assert inside.wait(10)
    got: list[bool] = []
    second = threading.Thread(target=lambda: got.append(Store(tmp_path).get("k", "it", fill("second"))[1]))
    second.start()
    go_on.set()
    first.join(10)
    second.join(10)
    assert made == ["first"] and got == [True]
    assert (tmp_path / "k" / "a.txt").read_text() == "first"


@pytest.mark.parametrize("text", ["[1]", '{"files": []}', '{"files": {"a": 1}}', '{"files": {"a": {}}}', "[" * 9999])
def test_an_invalid_manifest_is_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "store" / "key").mkdir(parents=True)
    (tmp_path / "store" / "key" / "entry.json").write_text(text)
    assert not Store(tmp_path / "store").has("key")


def test_manifests_are_written_and_read_byte_for_byte(tmp_path: Path) -> None:
    folder, _ = Store(tmp_path).get("k", "it", fill("one"))
    manifest = read_manifest(folder)
    assert manifest and (manifest.key, manifest.what, list(manifest.files)) == ("k", "it", ["a.txt", "deep/b.bin"])
    text = (folder / MANIFEST).read_text()
    assert text == manifest.text() and text.startswith('{\n "key": "k",\n "what": "it",\n "files": {\n  "a.txt": {\n')
    (folder / MANIFEST).write_text(text.replace("\n", "\n "))
    assert read_manifest(folder) is None


def test_manifests_of_the_first_version_are_read(tmp_path: Path) -> None:
    (tmp_path / "k").mkdir()
    (tmp_path / "k" / MANIFEST).write_text('{"what": "it", "files": {"a.txt": {"bytes": 3, "sha256": "00"}}}')
    manifest = read_manifest(tmp_path / "k")
    assert isinstance(manifest, Manifest) and manifest.key == "k" and manifest.files["a.txt"].bytes == 3
