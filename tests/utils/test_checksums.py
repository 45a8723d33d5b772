"""`SHA256SUMS` of runs and artifacts, and atomic writes."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from compress.utils.atomic import folder_as_a_whole, write_atomic
from compress.utils.checksums import (
    SUMS,
    check_run,
    find_changes,
    read_sums,
    require_unchanged,
    require_unchanged_artifact,
    update_sums,
    write_sums,
)
from compress.utils.errors import CompressError, UsageError
from compress.utils.processes import host_name, owner_name


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    artifact = folder / "artifacts" / "int8" / "onnx"
    artifact.mkdir(parents=True)
    (artifact / "model.onnx").write_bytes(b"\0\1")
    write_sums(artifact)
    (folder / "results.json").write_text("{}")
    (folder / "report.md").write_text("report")
    (folder / "store").mkdir()
    (folder / "store" / "entry").write_text("its own digests")
    write_sums(folder, leave_out=["store"])
    return folder


def test_sums_have_the_format_of_coreutils_and_leave_out_folders(run: Path) -> None:
    assert set(read_sums(run)) == {
        *(f"artifacts/int8/onnx/{name}" for name in (SUMS, "model.onnx")),
        *("report.md", "results.json"),
    }
    assert check_run(run) == [] and find_changes(run / "artifacts" / "int8" / "onnx") == []
    if shutil.which("sha256sum"):
        assert subprocess.run(["sha256sum", "--strict", "-c", SUMS], cwd=run, capture_output=True).returncode == 0


def test_changed_files_are_named_and_changed_results_refused(run: Path) -> None:
    (run / "report.md").write_text("another")
    (run / "artifacts" / "int8" / "onnx" / "model.onnx").unlink()
    assert [text.removeprefix(f"{run}/") for text in check_run(run)] == [
        "artifacts/int8/onnx/model.onnx is missing",
        "report.md has changed since it was written",
    ]
    update_sums(run, ["report.md"])
    assert len(check_run(run)) == 1
    (run / "results.json").write_text("[]")
    with pytest.raises(UsageError, match=r"results\.json has changed .* run the recipe again"):
        check_run(run)


def test_every_changed_bit_of_the_sums_is_noticed(run: Path) -> None:
    text = (run / SUMS).read_bytes()
    for place in range(len(text)):
        (run / SUMS).write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        with pytest.raises(CompressError, match=f"{SUMS} is damaged"):
            read_sums(run)
    for length in range(len(text)):
        (run / SUMS).write_bytes(text[:length])
        with pytest.raises(CompressError, match=f"{SUMS} is damaged"):
            read_sums(run)
    (run / SUMS).write_bytes(b"\xff")
    with pytest.raises(CompressError, match=f"{SUMS} is damaged: it cannot be read"):
        read_sums(run)
    (run / SUMS).unlink()
    assert "cannot verify its files: no SHA256SUMS" in check_run(run)[0]


@pytest.mark.parametrize("own", [True, False])
def test_an_artifact_is_checked_by_its_own_sums_or_else_its_runs(run: Path, own: bool, tmp_path: Path) -> None:
    artifact = run / "artifacts" / "int8" / "onnx"
    require_unchanged_artifact(artifact / "model.onnx")
    copied = Path(shutil.copytree(artifact, tmp_path / "copied"))
    if not own:
        (artifact / SUMS).unlink()
        with pytest.raises(CompressError, match="SHA256SUMS is missing"):
            require_unchanged_artifact(artifact / "model.onnx")
        return
    for folder in (artifact, copied):
        require_unchanged_artifact(folder / "model.onnx")
        (folder / "model.onnx").write_bytes(b"\0\2")
        with pytest.raises(CompressError, match=r"model\.onnx has changed .*; copy the artifact from its run again"):
            require_unchanged_artifact(folder / "model.onnx")


@pytest.mark.parametrize("place", ["linked", "run/artifacts/int8/onnx/../onnx", "run/artifacts/int8/none/../onnx", "."])
def test_an_artifact_is_checked_by_its_runs_sums_however_it_is_named(
    run: Path, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = run / "artifacts" / "int8" / "onnx"
    (artifact / SUMS).unlink()
    write_sums(run)
    (tmp_path / "linked").symlink_to(artifact)
    (run / "artifacts" / "int8" / "none").mkdir()
    monkeypatch.chdir(artifact if place == "." else tmp_path)
    require_unchanged_artifact(Path(place) / "model.onnx")
    (artifact / "model.onnx").write_bytes(b"\0\2")
    with pytest.raises(CompressError, match=r"model\.onnx has changed .*; copy the artifact from its run again"):
        require_unchanged_artifact(Path(place) / "model.onnx")


HELLO = hashlib.sha256(b"hello").hexdigest()


@pytest.mark.parametrize("levels", [0, 3], ids=["beside the artifact", "three folders above"])
@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("not a list \xff\n", True),
        (f"{HELLO}  image.iso\n", True),
        (f"SHA256 (NAME) = {HELLO}\n", True),
        (f"{HELLO}  image.iso\n{HELLO}  NAME\n", True),
        (f"{'0' * 64}  NAME\n", False),
        (f"{HELLO.upper()}  NAME\n", True),
        (f"{'F' * 64}  NAME\n", False),
        (f"{'0' * 64} *NAME\n", False),
        (f"{'0' * 64}  ./NAME\n", False),
        (f"{HELLO} *./NAME\r\n", True),
        (f"{'0' * 64}  NAME\r\n{HELLO}  image.iso\r\n", False),
        (f"SHA256 (NAME) = {'0' * 64}\n", False),
        (f"SHA2-256(./NAME)= {'0' * 64}\n", False),
    ],
)
def test_sums_of_another_tool_count_for_the_files_that_they_list(
    tmp_path: Path, text: str, matches: bool, levels: int
) -> None:
    folder = tmp_path / "a" / "b" / "c"
    folder.mkdir(parents=True)
    (folder / "it").write_bytes(b"hello")
    root = [folder, *folder.parents][levels]
    name = (folder / "it").relative_to(root).as_posix()
    (root / SUMS).write_text(text.replace("NAME", name), encoding="latin-1")
    checks = [lambda: require_unchanged_artifact(folder / "it")]
    checks += [lambda: require_unchanged(folder / "it", "make it again")] if root == folder else []
    for check in checks:
        if matches:
            check()
        else:
            with pytest.raises(CompressError, match="it has changed since it was written"):
                check()


def test_sums_that_end_in_their_last_line_are_damaged_and_without_it_count_for_what_they_list(run: Path) -> None:
    text = (run / SUMS).read_text()
    last = text.index("#")
    for length in range(last + 1, len(text)):
        (run / SUMS).write_text(text[:length])
        with pytest.raises(CompressError, match=f"{SUMS} is damaged"):
            require_unchanged(run / "report.md", "make it again")
    (run / SUMS).write_text(text[:last])
    require_unchanged(run / "report.md", "make it again")
    (run / "report.md").write_text("another")
    with pytest.raises(UsageError, match="has changed since it was written"):
        require_unchanged(run / "report.md", "make it again")


def test_an_artifact_put_beside_listed_files_is_not_checked_by_them(run: Path) -> None:
    shutil.copy(run / "artifacts/int8/onnx/model.onnx", run / "model.onnx")
    (run / "report.md").write_text("another")
    require_unchanged_artifact(run / "model.onnx")


def test_partial_files_of_killed_writers_are_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    container, elsewhere = f"{socket.gethostname()}?pidns-f0000001", "elsewhere"
    left = [(host_name(), dead.pid), (host_name(), 1), (container, dead.pid), (elsewhere, dead.pid)]
    files = [tmp_path / f".a.json.{owner_name(*owner)}.01234567.partial" for owner in left]
    for file in files:
        file.write_text("half")
    write_atomic(tmp_path / "a.json", "whole")
    assert sorted(tmp_path.iterdir()) == sorted([*files[1:], tmp_path / "a.json"])


@pytest.mark.parametrize("exists", [False, True])
def test_partial_folders_of_killed_writers_are_removed(tmp_path: Path, exists: bool) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    folder = tmp_path / "folder"
    for path in (folder, folder / "content") if exists else (folder,):
        left = path.with_name(f".{path.name}.{owner_name(host_name(), dead.pid)}.01234567.partial")
        left.mkdir(parents=True)
        (left / "a").write_text("half")
    with folder_as_a_whole(folder) as partial:
        assert not (folder / "a").exists() and list(partial.iterdir()) == []
        (partial / "a").write_text("whole")
    assert sorted(tmp_path.rglob("*")) == [folder, folder / "a"]


def test_writers_with_one_process_number_have_files_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = tmp_path / "a.json", Path.replace

    def other_writes_first(partial: Path, target: Path) -> Path:  # as in another container, with the same number
        monkeypatch.setattr(Path, "replace", replace)
        write_atomic(target, "other")
        return replace(partial, target)

    monkeypatch.setattr(Path, "replace", other_writes_first)
    write_atomic(path, "whole")
    assert path.read_text() == "whole" and list(tmp_path.iterdir()) == [path]
