"""File systems without locks, memory maps, hard links, flushes of folders, or renames of what is open."""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
from pathlib import Path
from typing import Any

import pytest

from compress.cli.errors import report_error
from compress.pipeline.run_folder import _link
from compress.store import file_systems
from compress.store.file_systems import require_maps
from compress.store.gc import clean
from compress.store.store import Store
from compress.utils import atomic
from compress.utils.atomic import fsync, write_atomic
from compress.utils.errors import CompressError


def fail(number: int) -> Any:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


def make(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "a.bin").write_bytes(b"1234")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_file_system_without_locks_is_used_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    monkeypatch.setattr(fcntl, "flock", fail(number))
    store = Store(tmp_path / "store")
    store.root.mkdir()
    assert store.job() and store.get("0" * 24, "it", make)[0].is_dir()
    (tmp_path / "store" / ("1" * 24)).mkdir()
    assert len(clean(tmp_path, max_size=0)) == 1


def test_a_file_system_without_memory_maps_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_maps(tmp_path)
    require_maps(tmp_path / "absent")  # whatever else is wrong there is found by what writes
    monkeypatch.setattr(mmap, "mmap", fail(errno.ENODEV))
    with pytest.raises(CompressError, match=rf"{tmp_path}: its file system cannot map files into memory \(No such dev"):
        require_maps(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENODEV, errno.ENOLCK])
def test_refused_locks_and_maps_of_other_folders_are_one_line(capsys: pytest.CaptureFixture[str], number: int) -> None:
    assert report_error(OSError(number, os.strerror(number))) == 1
    assert "files cannot be locked or mapped; put runs and data on a local disk" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EACCES, errno.EBUSY, errno.ENOTEMPTY])
def test_an_entry_is_copied_where_its_folder_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    rename = Path.replace

    def refuse_folders(path: Path, target: Path) -> Path:
        return fail(number)() if path.is_dir() else rename(path, target)

    monkeypatch.setattr(Path, "replace", refuse_folders)
    key, store = "a" * 24, Store(tmp_path)
    assert store.get(key, "it", make) == (tmp_path / key, False)
    assert Store(tmp_path).get(key, "it", make) == (tmp_path / key, True)
    assert (tmp_path / key / "deep" / "a.bin").read_bytes() == b"1234" and not list((tmp_path / "partial").iterdir())


def test_an_entry_that_can_be_neither_renamed_nor_copied_is_the_error_that_says_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "replace", fail(errno.EBUSY))
    monkeypatch.setattr(file_systems, "_copy", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):  # it says more than the refused rename
        file_systems.publish(tmp_path / "a", tmp_path / "b")
    for failed, words in ((fail(errno.EACCES), "busy"), (fail(errno.ENOSPC), "No space")):
        monkeypatch.setattr(file_systems, "_copy", failed)
        with pytest.raises(OSError, match=words):
            file_systems.publish(tmp_path / "a", tmp_path / "b")
    monkeypatch.setattr(Path, "replace", fail(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        file_systems.publish(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_folders_that_cannot_be_flushed_are_written_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    flush = os.fsync

    def refuse_folders(descriptor: int) -> None:
        fail(number)() if os.path.isdir(f"/proc/self/fd/{descriptor}") else flush(descriptor)  # noqa: PTH112

    monkeypatch.setattr(os, "fsync", refuse_folders)
    write_atomic(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text"
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        fsync(tmp_path)


def test_folders_that_cannot_be_opened_are_not_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "open", fail(errno.EACCES))
    fsync(tmp_path)
    with pytest.raises(PermissionError):
        fsync(tmp_path / "a")


def test_a_rename_over_a_file_that_is_open_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, refused = Path.replace, [0]

    def refuse(path: Path, target: Path) -> Path:
        refused[0] += 1
        return fail(errno.EACCES)() if refused[0] < 4 else rename(path, target)

    monkeypatch.setattr(atomic, "PAUSE_S", 0.0)
    monkeypatch.setattr(Path, "replace", refuse)
    write_atomic(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "text" and refused == [4]
    monkeypatch.setattr(Path, "replace", fail(errno.EBUSY))
    with pytest.raises(OSError, match="busy"):
        write_atomic(tmp_path / "a", "other")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_artifacts_are_copied_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("text")
    monkeypatch.setattr(os, "link", fail(errno.EPERM))
    _link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "text"
