"""Listing, checking and cleaning a store while jobs run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from compress.store.gc import check, clean, entries, keys_used_by_runs
from compress.store.jobs import keys_in_use
from compress.store.leases import gate
from compress.store.manifest import MANIFEST, find_damage
from compress.store.store import Store
from compress.utils.errors import CompressError, UsageError
from compress.utils.hashing import key_of

KEYS = [key_of(number=number) for number in range(4)]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Make four entries of 1,000 bytes, the first used longest ago, and two runs, of which the older used the first."""
    store = Store(tmp_path / "store")
    store.root.mkdir()
    for days, key in zip((40, 30, 20, 10), KEYS, strict=True):
        folder, _ = store.get(
            key, f"made {days} days ago", lambda partial: (partial / "a").write_bytes(bytes(1000)) and None
        )
        os.utime(folder / MANIFEST, (time.time() - days * 86400,) * 2)
    for name, key, age in (("older", KEYS[0], 50), ("newer", KEYS[1], 5)):
        (tmp_path / "tiny" / name).mkdir(parents=True)
        log = tmp_path / "tiny" / name / "log.jsonl"
        log.write_text(f'{{"event": "uses", "key": "{key}"}}\n{{"event": "torn')
        os.utime(log, (time.time() - age,) * 2)
        (log.parent / "results.json").touch()
    store._job.end()  # type: ignore[union-attr]
    return tmp_path


def there(runs: Path) -> set[str]:
    return {path.name for path in (runs / "store").iterdir() if path.name in KEYS}


def test_entries_are_listed_most_recently_used_first(runs: Path) -> None:
    found = entries(runs / "store")
    assert [entry.key for entry in found] == KEYS[::-1] and {entry.bytes for entry in found} == {1000}
    assert keys_used_by_runs(runs) == set(KEYS[:2]) and keys_used_by_runs(runs, 1) == {KEYS[1]}


@pytest.mark.parametrize("log", ['{"event": "failed"}', f'{{"event": "plan", "units": {{"a": "{KEYS[2]}"}}}}'])
def test_a_run_that_did_not_finish_takes_the_place_of_no_finished_one(runs: Path, log: str) -> None:
    (runs / "tiny" / "newest").mkdir()
    (runs / "tiny" / "newest" / "log.jsonl").write_text(log)
    kept = {KEYS[1], *(KEYS[2:3] if KEYS[2] in log else [])}
    assert keys_used_by_runs(runs, 1) == kept
    clean(runs, keep_runs=1)
    assert there(runs) == kept


def test_a_run_with_failed_stages_takes_the_place_of_no_finished_one(runs: Path) -> None:
    (runs / "tiny" / "newest").mkdir()
    log = runs / "tiny" / "newest" / "log.jsonl"
    log.write_text(f'{{"event": "uses", "key": "{KEYS[2]}"}}\n{{"event": "done", "failed": ["int8"]}}\n')
    (log.parent / "results.json").touch()
    assert keys_used_by_runs(runs, 1) == {KEYS[1], KEYS[2]}
    log.write_text(log.read_text().replace('["int8"]', "[]"))
    assert keys_used_by_runs(runs, 1) == {KEYS[2]}


def test_entries_that_a_job_will_use_are_kept_and_may_be_made_again(runs: Path) -> None:
    store = Store(runs / "store")
    store.reserve(KEYS[:1])
    assert clean(runs, keep_runs=0) and there(runs) == {KEYS[0]}
    with gate(runs / "store"):
        assert KEYS[0] in keys_in_use(runs / "store") and not keys_in_use(runs / "store", by_others=True)


@pytest.mark.parametrize(
    ("conditions", "gone"),
    [
        ({"keep_runs": 2}, KEYS[2:]),
        ({"keep_runs": 1}, [KEYS[0], *KEYS[2:]]),
        ({"keep_runs": 0}, KEYS),
        ({"older_than": timedelta(days=25)}, KEYS[:2]),
        ({"max_size": 2500}, KEYS[:2]),
        ({"max_size": 2500, "keep_runs": 1}, [KEYS[0], KEYS[2]]),
        ({"older_than": timedelta(days=25), "keep_runs": 1}, KEYS[:1]),
        ({"max_size": 5000}, []),
    ],
)
def test_entries_that_meet_all_conditions_are_deleted(
    runs: Path, conditions: dict[str, object], gone: list[str]
) -> None:
    assert {entry.key for entry in clean(runs, **conditions, dry_run=True)} == set(gone)  # type: ignore[arg-type]
    assert there(runs) == set(KEYS)
    assert {entry.key for entry in clean(runs, **conditions)} == set(gone)  # type: ignore[arg-type]
    assert there(runs) == set(KEYS) - set(gone)
    assert not (runs / "store" / "trash").exists()


USES = """
import sys, time
from pathlib import Path
from compress.store.store import Store
store = Store(Path(sys.argv[1]))
assert store.has(sys.argv[2])
with store.temporary():
    import tempfile
    Path(tempfile.mkdtemp(), "half").write_text("half")
    print("used", flush=True)
    time.sleep(600)
"""


def test_entries_of_running_jobs_stay_and_leftovers_of_killed_jobs_go(runs: Path) -> None:
    job = subprocess.Popen([sys.executable, "-c", USES, runs / "store", KEYS[0]], stdout=subprocess.PIPE, text=True)
    assert job.stdout and job.stdout.readline() == "used\n"
    assert list((runs / "store" / "running").glob("*.tmp/*/half"))
    assert {entry.key for entry in clean(runs, max_size=0)} == set(KEYS[1:])
    job.kill()
    job.wait()
    job.stdout.close()
    assert {entry.key for entry in clean(runs, max_size=0)} == {KEYS[0]}
    assert list((runs / "store" / "running").iterdir()) == []


def test_an_entry_that_another_process_uses_is_not_made_again(runs: Path) -> None:
    job = subprocess.Popen([sys.executable, "-c", USES, runs / "store", KEYS[0]], stdout=subprocess.PIPE, text=True)
    assert job.stdout and job.stdout.readline() == "used\n"
    store = Store(runs / "store")
    assert store.has(KEYS[0]) and not store.discard_unused(KEYS[0])
    assert Store(runs / "store").has(KEYS[0]), "it is whole"
    job.kill()
    job.wait()
    job.stdout.close()
    assert store.discard_unused(KEYS[0]) and not store.has(KEYS[0]) and not store.path(KEYS[0]).exists()
    assert not list((runs / "store" / "running").glob("*.tmp/*"))

    def make(folder: Path) -> None:
        assert not store.discard_unused(KEYS[0]), "it is being made"
        (folder / "a").touch()

    store.get(KEYS[0], "it", make)


def test_an_entry_that_is_being_made_stays(runs: Path) -> None:
    store = Store(runs / "store")

    def make(folder: Path) -> None:
        (folder / "half").write_text("half")
        clean(runs, max_size=0)
        assert (folder / "half").exists()

    key = key_of(number=9)
    store.get(key, "it", make)
    assert there(runs) == set() and store.path(key).is_dir()


def test_unfinished_entries_of_killed_runs_are_deleted_by_the_same_conditions(runs: Path) -> None:
    left = runs / "store" / "partial" / key_of(number=9)
    left.mkdir(parents=True)
    (left / "half").write_text("half")
    assert entries(runs / "store")[0].unfinished
    assert not any(entry.unfinished for entry in clean(runs, older_than=timedelta(hours=1), dry_run=True))
    assert any(entry.unfinished for entry in clean(runs, max_size=0)) and not left.exists()


def test_an_entry_that_cannot_be_removed_is_named(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(CompressError, match=f"{KEYS[0]} cannot be removed: Read-only file system"):
        clean(runs, older_than=timedelta(days=35))
    assert there(runs) == set(KEYS)


def test_check_names_changed_files_and_exchanged_entries(runs: Path) -> None:
    store = runs / "store"
    assert list(check(store)) == []
    (store / KEYS[0] / "a").write_bytes(bytes(999) + b"1")
    (store / KEYS[1]).rename(store / "aside")
    (store / KEYS[2]).rename(store / KEYS[1])
    (store / "aside").rename(store / KEYS[2])
    report = "\n".join(check(store))
    assert f"{KEYS[0]} is damaged (a has changed)" in report
    assert f"{KEYS[1]} is damaged (it is the entry {KEYS[2]})" in report and report.count("\n") == 2


def test_check_does_not_report_what_is_deleted_meanwhile(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(path: Path) -> str | None:
        if path.name == KEYS[3]:  # the first that is checked
            (path / "a").write_bytes(b"")
            assert len(clean(runs, older_than=timedelta(days=15))) == 3  # all others
        return find_damage(path)

    monkeypatch.setattr("compress.store.gc.find_damage", delete)
    assert [line.partition(" is ")[0] for line in check(runs / "store")] == [str(runs / "store" / KEYS[3])]


def test_clean_needs_a_condition_and_a_store() -> None:
    with pytest.raises(UsageError, match="give --keep-runs, --older-than or --max-size"):
        clean(Path("nowhere"))
    with pytest.raises(UsageError, match="no store in nowhere; name the folder of your runs with --runs"):
        clean(Path("nowhere"), max_size=0)
