"""`store list`, `check` and `clean`, and the sizes and times that they take."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from compress.cli import app
from compress.cli.store import parse_age, parse_size
from compress.store.store import Store
from compress.utils.errors import UsageError
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


def test_list_prints_entries_and_their_total(runs: Path) -> None:
    done = call("list", "--runs", runs)
    assert "a [network] (no run names it)" in done.stdout and "2 entries, 4.0 MB" in done.stdout
    rows = json.loads(call("list", "--runs", runs, "--json").stdout)
    assert {row["key"] for row in rows} == set(KEYS) and not any(row["named_by_a_run"] for row in rows)


def test_check_names_damaged_entries_and_exits_with_1(runs: Path) -> None:
    assert call("check", "--runs", runs).exit_code == 0
    (runs / "store" / KEYS[0] / "a").write_bytes(b"")
    done = call("check", "--runs", runs)
    assert done.exit_code == 1 and f"{KEYS[0]} is damaged (a has changed)" in done.stderr
    assert len(json.loads(call("check", "--runs", runs, "--json").stdout)) == 1


def test_clean_deletes_down_to_a_size_unless_it_is_a_dry_run(runs: Path) -> None:
    command = ("clean", "--runs", runs, "--max-size", "3MB", "--keep-runs", 3)
    planned = call(*command, "--dry-run")
    assert "1 entries, 2.0 MB" in planned.stdout and "nothing was deleted" in planned.stdout
    assert sum((runs / "store" / key).exists() for key in KEYS) == 2
    assert len(json.loads(call(*command, "--json").stdout)) == 1
    assert sum((runs / "store" / key).exists() for key in KEYS) == 1
    assert call("clean", "--runs", runs, "--older-than", "0h").exit_code == 0
    assert not any((runs / "store" / key).exists() for key in KEYS)


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500 * 10**6), ("20 GB", 20 * 10**9), ("1.5 G", 1_500_000_000), ("7", 7), ("3k", 3000), ("2GiB", 2**31)],
)
def test_sizes_are_powers_of_ten(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("2w", 336), ("1.5 d", 36)])
def test_ages_are_hours_days_and_weeks(text: str, hours: float) -> None:
    assert parse_age(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "GB", "5 parsecs", "-1h", "9" * 99 + "w"])
def test_what_is_not_a_size_or_an_age_is_refused(text: str) -> None:
    if not text.endswith("w"):
        with pytest.raises(UsageError, match="--max-size must be a size such as 500MB"):
            parse_size(text)
    with pytest.raises(UsageError, match="--older-than must be a time such as 12h"):
        parse_age(text)
