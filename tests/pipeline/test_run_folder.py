"""Artifacts in the folder of a run: links into the store, which are never written through."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
from recipe.recipe_texts import GOOD

from compress.cli.errors import report_error
from compress.pipeline.plan import plan_stages
from compress.pipeline.run_folder import _link, copy_artifacts
from compress.recipe.load import parse_recipe
from compress.stages.planned import Plan
from compress.store.store import Store

HALF = "  - {id: half, kind: export, from: [distilled, int8], precision: fp16}\nworth:"


@pytest.fixture
def plan() -> Plan:
    return plan_stages(parse_recipe(GOOD.replace("worth:", HALF)), "data")


def test_the_same_files_of_two_stages_are_made_and_listed_once(plan: Plan) -> None:
    keys = {each.id: each.key for each in plan.stages}
    assert keys["files/int8"] == keys["half/int8"] and keys["files/distilled"] != keys["half/distilled"]
    assert [each.id for each in plan.exports] == ["files/distilled", "files/int8", "half/distilled"]


def test_artifacts_of_several_stages_are_copied_and_the_store_stays_as_it_is(plan: Plan, tmp_path: Path) -> None:
    store, folder, made = Store(tmp_path / "store"), tmp_path / "run", {}
    for export in plan.exports:
        for place in (f"artifacts/onnx{'-fp16' * export.id.startswith('half')}/a.onnx", "triton/served/config.pbtxt"):
            path = store.path(export.key) / place
            path.parent.mkdir(parents=True)
            path.write_text(made.setdefault(path, export.id))
    for _ in range(2):
        copy_artifacts(plan, store, folder)
    assert {path: path.read_text() for path in made} == made
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    assert found == {
        "artifacts/distilled/onnx/a.onnx": "files/distilled",
        "artifacts/int8/onnx/a.onnx": "files/int8",
        "artifacts/distilled/onnx-fp16/a.onnx": "half/distilled",
        "triton/served/config.pbtxt": "half/distilled",
    }


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    first, second, target = (tmp_path / name for name in ("first", "second", "target"))
    first.write_text("1")
    second.write_text("2")
    os.link(first, target)

    def refused(*_: object) -> None:
        raise OSError("no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
    _link(first, target)
    assert target.samefile(first)
    _link(second, target)
    assert (first.read_text(), target.read_text()) == ("1", "2") and target.samefile(second) is links


def test_artifacts_that_cannot_be_copied_are_one_line(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error of the system arrives as it is: a full disk is known by its number, others name the file."""
    store, run = Store(tmp_path / "store"), tmp_path / "run"
    for export in plan.exports:
        (store.path(export.key) / "artifacts" / "onnx").mkdir(parents=True)
        (store.path(export.key) / "artifacts" / "onnx" / "a.onnx").touch()
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EMLINK, "Too many links")))
    target = run / "artifacts" / "distilled" / "onnx" / "a.onnx"
    for error, line in (
        (OSError(errno.ENOSPC, "Kein Platz"), "error: disk is full; "),
        (OSError(errno.EDQUOT, "Disk quota exceeded", str(target)), "error: disk is full; "),
        (PermissionError(errno.EACCES, "Permission denied", str(target)), f"error: {target}: Permission denied\n"),
    ):
        monkeypatch.setattr(shutil, "copy2", Mock(side_effect=error))
        with pytest.raises(OSError) as raised:
            copy_artifacts(plan, store, run)
        assert report_error(raised.value) == 1
        assert capsys.readouterr().err.startswith(line)
    shutil.rmtree(store.path(plan.exports[0].key) / "artifacts")
    with pytest.raises(FileNotFoundError) as lacking:
        copy_artifacts(plan, store, run)
    report_error(lacking.value)
    assert "artifacts: No such file or directory" in capsys.readouterr().err
