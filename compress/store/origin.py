"""Runs at a URL: a folder in the user's cache stands for it, with a store that is a cache of the store there."""

from __future__ import annotations

import secrets
from pathlib import Path

from compress.store.remote import ORIGIN
from compress.store.shared import SharedFolder
from compress.utils.atomic import write_atomic
from compress.utils.checksums import SUMS
from compress.utils.system import cache_folder
from compress.utils.urls import cache_of, check_url, is_url, local_path


def local_runs(runs: str | Path) -> Path:
    """Return the local folder of runs: the path itself, or the one that stands for a URL.

    Raises:
        UsageError: the URL has credentials or no folder, or this user has no place for a cache.
    """
    text = str(runs).strip()
    if not is_url(text):
        path = local_path(text)
        return Path(runs if path == text else path)
    check_url(text)
    url = text.rstrip("/")
    folder = cache_of(url, cache_folder(), "runs")
    file = folder / "store" / ORIGIN
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, f"{url}/store\n")
    return folder


def url_of_runs(runs: Path) -> str | None:
    """Return the URL that a local folder of runs stands for, if it does."""
    file = runs / "store" / ORIGIN
    return file.read_text().strip().removesuffix("/store") if file.is_file() else None


def shared_runs(runs: Path) -> SharedFolder | None:
    """Return the folder of runs at the URL that a local folder stands for, if it does."""
    url = url_of_runs(runs)
    return SharedFolder(url) if url else None


def claim_run(runs: Path, folder: Path) -> bool:
    """Take the name of a new run at the URL that `runs` stands for; False if a run of another machine has it."""
    shared = shared_runs(runs)
    if shared is None:
        return True
    mark = f"{secrets.token_hex(8)}\n".encode()  # the log itself is uploaded at the end
    return shared.create(f"{folder.relative_to(runs).as_posix()}/log.jsonl", mark)


def upload_run(runs: Path, folder: Path) -> str | None:
    """Copy a finished run to the URL that `runs` stands for, its checksums last, and return the URL of the run."""
    shared = shared_runs(runs)
    if shared is None:
        return None
    name = folder.relative_to(runs).as_posix()
    files = [path for path in folder.rglob("*") if path.is_file() and path.relative_to(folder).parts[0] != "store"]
    for path in sorted(files, key=lambda path: (path.name == SUMS, path)):
        shared.upload(path, f"{name}/{path.relative_to(folder).as_posix()}")
    return f"{shared.url}/{name}"
