"""Workers on one store: what one makes the others take, what fails is given up by all, and `status` tells."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Forked, start
from naps import PLUGIN, write_naps
from object_stores import PLANTED, PLANTED_KEY
from support import Job, environment, typed

from compress.pipeline.job import open_store, prepare_job
from compress.pipeline.making import Making
from compress.pipeline.plan import make_plan
from compress.pipeline.run_folder import Log
from compress.pipeline.work import MAX_ATTEMPTS, installed_for, make_unit
from compress.plugins import load
from compress.recipe import load_recipe
from compress.store.leases import entry_lease
from compress.store.shared import SharedFolder
from compress.store.store import Store
from compress.store.workers import STATUS, WorkerStatus, statuses
from compress.utils.errors import CompressError


@pytest.fixture
def naps(make_job: Callable[[], Job]) -> Callable[..., list[str]]:
    """Write a recipe with naps, and give the command for a verb on it."""
    root = make_job().root

    def write(*settings: str) -> list[str]:
        write_naps(root / "naps.yaml", root, settings)
        return [str(root / "naps.yaml"), "--runs", str(root / "shared"), "--plugin", str(PLUGIN)]

    return write


def worker(arguments: list[str], folder: Path) -> Forked:
    return start(["python", "-m", "compress", "work", *arguments, "--no-dry-run", "--json"], environment(), folder)


def events(text: str) -> Iterator[dict[str, str]]:
    return (json.loads(line) for line in text.splitlines() if line.startswith("{"))


@pytest.mark.usefixtures("no_plugins")
def test_workers_share_a_recipe_and_each_stage_is_made_once(naps: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = naps(*(f"seconds: 0.2{number}" for number in range(8)))
    workers = [worker(arguments, tmp_path) for _ in range(2)]
    ended = [each.wait() for each in workers]
    assert [each.returncode for each in ended] == [0, 0], ended
    made = Counter(event["unit"] for each in ended for event in events(each.stdout) if event["event"] == "made")
    assert made == Counter(["net", *(f"nap{number}" for number in range(8))])
    assert all("all 9 stages are in the store" in each.stderr for each in ended)
    store = Path(arguments[2]) / "store"
    assert len(list(store.glob("*/entry.json"))) >= 9
    left = [path.name for name in ("partial", "locks", "running") for path in (store / name).glob("*")]
    assert left == []
    again = typed("work", *arguments, "--no-dry-run")
    assert again.returncode == 0 and "all 9 stages are in the store" in again.stderr
    rows = json.loads(typed("status", *arguments, "--json").stdout)
    assert {row["state"] for row in rows} == {"stored"} and len(rows) == 9


@pytest.mark.usefixtures("no_plugins")
def test_a_stage_that_fails_three_times_is_given_up_by_all(naps: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = naps("", "fails: true", "seconds: 0.05")
    done = typed("work", *arguments, "--no-dry-run")
    assert done.returncode == 1 and "error: stage nap1: it always fails" in done.stderr
    assert "error: remove the cause, and start workers with --retry" in done.stderr
    assert done.stderr.count("failed: stage nap1: it always fails") == 3 and "nap2: nap net" in done.stderr
    rows = {row["unit"]: row for row in json.loads(typed("status", *arguments, "--json").stdout)}
    assert rows["nap1"]["state"] == "failed" and rows["nap1"]["failures"] == ["it always fails"] * 3
    assert rows["nap0"]["state"] == rows["nap2"]["state"] == "stored"
    again = typed("work", *arguments, "--no-dry-run")
    assert again.returncode == 1 and "nap1: given up, failed attempts: 3" in again.stderr
    assert again.stderr.count("failed: stage") == 0
    third = typed("work", *arguments, "--no-dry-run", "--retry")
    assert third.returncode == 1 and third.stderr.count("failed: stage nap1: it always fails") == 3
    shown = typed("status", *arguments).stdout
    assert "nap1" in shown and "attempts: 3; it always fails" in shown and "stored" in shown
    naps("", "", "seconds: 0.05")  # the cause removed: another key, and its failures are not of it
    assert typed("work", *arguments, "--no-dry-run").returncode == 0


@pytest.mark.usefixtures("no_plugins")
def test_a_worker_survives_the_unexpected_error_of_a_stage(naps: Callable[..., list[str]]) -> None:
    arguments = naps("crashes: true", "seconds: 0.07")
    done = typed("work", *arguments, "--no-dry-run")
    assert done.returncode == 1 and "error: stage nap0: unexpected ValueError: a bug" in done.stderr
    rows = {row["unit"]: row for row in json.loads(typed("status", *arguments, "--json").stdout)}
    assert rows["nap0"]["failures"] == ["unexpected ValueError: a bug"] * 3 and rows["nap1"]["state"] == "stored"


@pytest.mark.usefixtures("no_plugins")
def test_stages_that_others_make_cost_nothing_to_pass_by(
    naps: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is freed after teachers only: for each stage, it took a third of the time of two workers."""
    load([str(PLUGIN)])
    recipe = load_recipe(naps("seconds: 0.05", "seconds: 0.04")[0])
    store = open_store(tmp_path / "store")
    making = Making(prepare_job(recipe, store, Log(tmp_path / "log.jsonl"), dry_run_first=False), MAX_ATTEMPTS)
    monkeypatch.setattr("compress.measurement.batch_size.free_memory", lambda: pytest.fail("there is no teacher"))
    other = entry_lease(store.root, making.left["nap0"].key)
    assert other.claim()
    while making.step():
        pass
    assert list(making.left) == ["nap0"]
    other.release()
    assert making.all()[0] == []


@pytest.mark.usefixtures("no_plugins")
def test_status_tells_who_makes_what(naps: Callable[..., list[str]], tmp_path: Path) -> None:
    arguments = naps("seconds: 600", "")
    rows = json.loads(typed("status", *arguments, "--json").stdout)
    assert [(row["unit"], row["state"], row["detail"]) for row in rows] == [
        ("net", "free", ""),
        ("nap0", "waiting", "for net"),
        ("nap1", "waiting", "for net"),
    ]
    running = worker(arguments, tmp_path)
    store = Path(arguments[2]) / "store"
    while not any(status.unit == "nap0" for status in statuses(store)):
        assert running.process.is_alive()
        running.process.join(0.1)
    second = worker(arguments, tmp_path)  # makes the other one meanwhile
    while {row["unit"]: row for row in json.loads(typed("status", *arguments, "--json").stdout)}["nap1"]["state"] != (
        "stored"
    ):
        assert second.process.is_alive()
        second.process.join(0.1)
    rows = {row["unit"]: row for row in json.loads(typed("status", *arguments, "--json").stdout)}
    assert rows["nap0"]["state"] == "making" and rows["nap0"]["worker"].endswith(f":{running.pid}")
    assert rows["nap0"]["since"] and "store: another run is making nap0; waiting for it" in second.err.read_text()
    for each in (running, second):
        each.process.kill()
        each.process.join()
    rows = {row["unit"]: row for row in json.loads(typed("status", *arguments, "--json").stdout)}
    assert rows["nap0"]["state"] == "free"


@pytest.mark.slow
def test_workers_make_what_a_run_makes(
    job: Job, done_job: Callable[[], Job], monkeypatch: pytest.MonkeyPatch, bucket_url: str
) -> None:
    """The stages of a recipe at a URL have the bits of those that a run on one machine has made."""
    monkeypatch.setenv("HF_TOKEN", PLANTED)
    copied = done_job()
    names = ("teacher", "scratch")
    text = copied.recipe.read_text().replace("references: [teacher, distilled]", "references: [teacher]")
    copied.recipe.write_text(text[: text.index("  - {id: distilled")] + text[text.index("measure:") :])
    url, cache = f"{bucket_url}/runs", str(copied.root / "cache")
    done = typed("work", copied.recipe, "--runs", url, "--no-dry-run", XDG_CACHE_HOME=cache)
    assert done.returncode == 0, done.stderr
    shutil.rmtree(cache)  # another machine
    done = typed("run", copied.recipe, "--runs", url, "--no-dry-run", XDG_CACHE_HOME=cache)
    assert done.returncode == 0, done.stderr
    assert all(f"{name}: taken from the store" in done.stderr for name in names)
    assert f"uploaded to {url}/tiny/" in done.stderr
    shared = SharedFolder(url)
    run = next(name.rsplit("/", 1)[0] for name in shared.names("tiny") if name.endswith("results.json"))
    assert {f"{run}/report.html", f"{run}/SHA256SUMS", f"{run}/log.jsonl"} <= set(shared.names("tiny"))
    written = [path.read_bytes() for path in copied.root.rglob("*") if path.is_file()]
    written += [shared.read(name) or b"" for name in shared.names()]
    secrets = (PLANTED.encode(), PLANTED_KEY.encode())
    assert len(written) > 50 and not any(secret in content for content in written for secret in secrets)
    keys = {
        row["unit"]: row["key"]
        for row in json.loads(typed("status", copied.recipe, "--runs", url, "--json", XDG_CACHE_HOME=cache).stdout)
    }
    weights = (job.runs / "store" / keys["scratch"] / "model.safetensors").read_bytes()
    entry = next(name for name in shared.names(f"store/{keys['scratch']}") if name.endswith("model.safetensors"))
    assert shared.read(entry) == weights
    listed = typed("store", "list", "--runs", url, "--json", XDG_CACHE_HOME=cache)
    assert {row["key"] for row in json.loads(listed.stdout)} >= set(keys.values())
    assert typed("store", "check", "--runs", url, XDG_CACHE_HOME=cache).returncode == 0
    shared.write(entry, weights[::-1])
    checked = typed("store", "check", "--runs", url, XDG_CACHE_HOME=cache)
    assert checked.returncode == 1 and "model.safetensors has changed" in checked.stderr
    cleaned = typed("store", "clean", "--runs", url, "--max-size", "0B", XDG_CACHE_HOME=cache)
    assert cleaned.returncode == 0 and not [name for name in shared.names("store") if name.endswith("entry.json")]


@pytest.mark.usefixtures("no_plugins")
def test_a_node_with_other_packages_makes_nothing(naps: Callable[..., list[str]]) -> None:
    """It would be made under a key that the run does not look for."""
    arguments = naps("seconds: 0.0")
    load([str(PLUGIN)])
    recipe, runs = load_recipe(arguments[0]), Path(arguments[2])
    (runs / "store").mkdir(parents=True)
    planned = make_plan(recipe, Store(runs / "store")).stage("net")
    there = installed_for(planned)
    with pytest.raises(CompressError, match=rf"another key than head: torch is {there['torch']}, not 1\.0; install"):
        make_unit(recipe, runs, "net", "0" * 24, {**there, "host": "head", "torch": "1.0"})
    assert make_unit(recipe, runs, "net", planned.key, there) > 0 and Store(runs / "store").has(planned.key)


def test_damaged_status_files_are_no_workers(tmp_path: Path) -> None:
    folders = [tmp_path / "running" / f"{number}.tmp" for number in range(2)]
    for folder in folders:
        folder.mkdir(parents=True)
    (folders[0] / STATUS).write_text("{")
    gone = WorkerStatus(host="elsewhere", process=1, unit="u", key="k", since="2026-01-01T00:00:00+00:00")
    (folders[1] / STATUS).write_text(gone.model_dump_json())
    assert [status.host for status in statuses(tmp_path)] == ["elsewhere"]
