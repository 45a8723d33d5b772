"""The folder of a run: its log, results, pages and artifacts."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from compress.recipe.schema import Recipe
from compress.report.page import write_report
from compress.results.run import RunRecord
from compress.stages.planned import Plan
from compress.store.origin import claim_run
from compress.store.store import Store
from compress.utils.atomic import write_atomic
from compress.utils.checksums import write_sums
from compress.utils.copying import copy_tree
from compress.utils.errors import CompressError


class Log:
    """`log.jsonl`: one JSON object per event."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, **fields: Any) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self.path.open("a") as file:
            file.write(json.dumps({"time": now, "event": event, **fields}) + "\n")


def new_folder(runs: Path, recipe: Recipe, started: datetime) -> Path:
    """Create a new run folder, unique among runs of the same second; failure is a `CompressError`."""
    parent = runs / recipe.name
    try:
        parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CompressError(f"cannot create {parent}: {error.strerror}; choose another folder with --runs") from error
    name = started.strftime("%Y%m%d-%H%M%S")
    for number in range(1, 1000):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        if claim_run(runs, folder):
            return folder
        folder.rmdir()
    raise CompressError(f"cannot create a run folder in {parent}")


def write_run(record: RunRecord, plan: Plan, store: Store, folder: Path) -> None:
    """Write results, recipe, reports and artifacts into the folder of a run."""
    copy_artifacts(plan, store, folder)
    write_atomic(folder / "recipe.yaml", yaml.safe_dump(record.recipe.resolved, sort_keys=False, allow_unicode=True))
    write_atomic(folder / "results.json", record.to_json() + "\n")
    write_report(record, folder)


def seal(folder: Path) -> None:
    """Write the checksums of all files of a run, without those that others may go on writing to.

    Its own store (`--fresh`) has checksums already; some trackers upload or write from a process of their own.
    """
    write_sums(folder, leave_out=["store", *(f"logs/{name}" for name in ("wandb", "mlruns", "mlflow.db", "trackio"))])


def copy_artifacts(plan: Plan, store: Store, folder: Path) -> None:
    """Copy artifacts and Triton models into a folder, as hard links into the store where supported."""
    for planned in plan.exports:
        assert planned.parent
        entry = store.path(planned.key)
        copy_tree(entry / "artifacts", folder / "artifacts" / planned.parent, _link)
        if (entry / "triton").is_dir():
            copy_tree(entry / "triton", folder / "triton", _link)


def _link(source: Path, target: Path) -> None:
    """Link a file, or copy it; one that is there is replaced, as writing to it would change what it is linked to."""
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
