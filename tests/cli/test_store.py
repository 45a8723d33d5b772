"""`store list`, `check` and `clean` as a person meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from compress.cli.app import app
from compress.store.store import Store
from compress.utils.hashing import key_of

KEYS = [key_of(number=number) for number in range(2)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    store = Store(tmp_path / "store")
    store.root.mkdir()
    for key in KEYS:
        store.get(key, "a [network]", lambda folder: (folder / "a").write_bytes(bytes(2 * 10**6)) and None)
    store._job.end()  # type: ignore[union-attr]
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["store", *map(str, arguments)])


def test_list(runs: Path) -> None:
    done = call("list", "--runs", runs)
    assert "a [network] (no run names it)" in done.stdout and "2 entries, 4.0 MB" in done.stdout
    rows = json.loads(call("list", "--runs", runs, "--json").stdout)
    assert {row["key"] for row in rows} == set(KEYS) and not any(row["named_by_a_run"] for row in rows)


def test_check(runs: Path) -> None:
    assert call("check", "--runs", runs).exit_code == 0
    (runs / "store" / KEYS[0] / "a").write_bytes(b"")
    done = call("check", "--runs", runs)
    assert done.exit_code == 1 and f"{KEYS[0]} is damaged (a has changed)" in done.stderr
    assert len(json.loads(call("check", "--runs", runs, "--json").stdout)) == 1


def test_clean(runs: Path) -> None:
    asked = ("clean", "--runs", runs, "--max-size", "3MB", "--keep-runs", 3)
    planned = call(*asked, "--dry-run")
    assert "1 entries, 2.0 MB" in planned.stdout and "nothing was deleted" in planned.stdout
    assert sum((runs / "store" / key).exists() for key in KEYS) == 2
    assert len(json.loads(call(*asked, "--json").stdout)) == 1
    assert sum((runs / "store" / key).exists() for key in KEYS) == 1
    assert call("clean", "--runs", runs, "--older-than", "0h").exit_code == 0
    assert not any((runs / "store" / key).exists() for key in KEYS)
