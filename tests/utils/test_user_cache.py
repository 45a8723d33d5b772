"""Users without a cache that can be written to: no home, a read-only one, the root folder."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Job, environment

from compress.models.factory import create_model
from compress.models.teachers import _no_weights
from compress.recipe.models import OpenClipTeacher
from compress.utils import user_cache
from compress.utils.console import console
from compress.utils.errors import CompressError
from compress.utils.user_cache import give_caches_a_place, say_where_downloads_go

NO_ACCOUNT = """\
import pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""
CACHES = ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")
SHOW = f"""\
import json, os
from compress.utils.user_cache import give_caches_a_place
give_caches_a_place()
print(json.dumps({{name: os.environ.get(name) for name in {CACHES!r}}}))
"""


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    """The environment of a user whom the system does not know and who has no home, as container engines start them."""
    (tmp_path / "sitecustomize.py").write_text(NO_ACCOUNT)
    (tmp_path / "tmp").mkdir()
    kept = {key: value for key, value in environment().items() if key not in ("USER", "LOGNAME", "HOME", *CACHES)}
    path = f"{tmp_path}{os.pathsep}{kept.get('PYTHONPATH', '')}"
    return {**kept, "PYTHONPATH": path, "TMPDIR": str(tmp_path / "tmp"), "HF_HUB_OFFLINE": "1"}


def places(variables: dict[str, str], **more: str) -> dict[str, str | None]:
    """Return where a process has its caches."""
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, env={**variables, **more})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_caches_are_beside_temporary_files_where_the_user_has_none(variables: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "tmp" / f"compress-model-{os.getuid()}"
    moved = {"HF_HOME": f"{folder}/huggingface", "TORCH_HOME": f"{folder}/torch", "XDG_CACHE_HOME": str(folder)}
    assert places(variables) == places(variables, HOME="/proc/none") == moved
    assert folder.stat().st_mode & 0o777 == 0o700
    assert places(variables, HOME="/proc/none", TORCH_HOME="/own") == {**moved, "TORCH_HOME": "/own"}
    folder.rmdir()
    folder.symlink_to(tmp_path)  # another user's
    other = places(variables)["XDG_CACHE_HOME"]
    assert other and Path(other).parent == tmp_path / "tmp" and Path(other) != folder


def test_a_cache_that_can_be_written_stays(variables: dict[str, str], tmp_path: Path) -> None:
    assert places(variables, HOME=str(tmp_path)) == dict.fromkeys(CACHES)
    assert places(variables, HOME="/proc/none", XDG_CACHE_HOME=str(tmp_path / "own")) == {
        "HF_HOME": None,
        "TORCH_HOME": None,
        "XDG_CACHE_HOME": str(tmp_path / "own"),
    }
    assert not (tmp_path / "own").exists() and not list((tmp_path / "tmp").iterdir())


def test_weights_that_are_in_a_read_only_cache_are_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("TMPDIR", *CACHES):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(user_cache, "_can_write", lambda folder: False)
    monkeypatch.setattr(user_cache, "_temporary", tmp_path / "moved")
    monkeypatch.setattr(user_cache, "_told", False)
    (tmp_path / ".cache" / "huggingface").mkdir(parents=True)
    give_caches_a_place()
    assert os.environ["HF_HOME"] == str(tmp_path / ".cache" / "huggingface")
    assert os.environ["TORCH_HOME"] == str(tmp_path / "moved" / "torch")
    with console.capture() as said:
        say_where_downloads_go("HF_HOME")  # which is where the weights are, and is not said
        say_where_downloads_go("TORCH_HOME")
        say_where_downloads_go("TORCH_HOME")
    line = said.get()
    assert line.count("\n") == 1 and f"downloads go to {tmp_path / 'moved' / 'torch'}, as" in line
    assert "set TORCH_HOME to keep them elsewhere" in line


@pytest.mark.parametrize("home", [None, "/proc/none"])
def test_init_and_plan_need_no_home(
    make_job: Callable[[], Job], variables: dict[str, str], tmp_path: Path, home: str | None
) -> None:
    job, folder = make_job(), tmp_path / "work"
    folder.mkdir()
    variables |= {"HOME": home} if home else {}
    for arguments in (["init", str(job.root / "images")], ["plan", str(job.recipe), "--no-dry-run"]):
        command = [sys.executable, "-m", "compress", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=folder)
        assert done.returncode == 0 and "Permission" not in done.stderr, done.stderr
    assert not (folder / "~").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
@pytest.mark.parametrize(
    ("library", "name", "folder", "variable"),
    [
        ("torchvision", "resnet18", "/home/me/.cache/torch/hub", "TORCH_HOME"),
        ("timm", "test_resnet", "/home/me/.cache/huggingface/hub", "HF_HOME"),
    ],
)
def test_a_cache_that_cannot_be_written_is_told_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, number: int, library: str, name: str, folder: str, variable: str
) -> None:
    def refused(*_: object) -> None:
        raise OSError(number, os.strerror(number), folder)

    for each in CACHES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(f"compress.models.factory._{library}", refused)
    monkeypatch.setattr("compress.models.hub.hub_is_reachable", lambda patience: True)
    wanted = rf"^{library}'s weights of {name} cannot be stored here \(.*{folder}'\); set {variable} to a folder"
    with pytest.raises(CompressError, match=wanted):
        create_model(library, name, 2, 32, pretrained=True)
    settings = OpenClipTeacher(source="open_clip", model="ViT-B-32", pretrained="openai")
    line = _no_weights(settings, {"hf_hub": "x"}, OSError(number, os.strerror(number), folder))
    assert f"cannot be stored here ([Errno {number}]" in line and f"set {variable} to a folder" in line
