"""Shards, files of many images each: which there are, and which split each belongs to."""

from __future__ import annotations

import glob
import re
from pathlib import Path, PurePosixPath

from compress.data.image_io import exists, is_file, is_folder
from compress.data.layout import count_file, entries_of
from compress.data.layout import is_folder as is_folder_entry
from compress.data.lazy_shards import lazy_files, stamp
from compress.data.left_out import Tally
from compress.data.manifest import ShardRecord, is_manifest, read_manifest
from compress.data.patterns import alternatives, fixed_folder, is_pattern, parts_of
from compress.data.remote_shards import download, list_remote
from compress.utils.errors import CompressError, UsageError
from compress.utils.messages import located
from compress.utils.resources import expand
from compress.utils.urls import is_url


def find_shards(
    path: str, endings: tuple[str, ...], tally: Tally | None = None, limit: float | None = None
) -> list[tuple[Path, str]]:
    """Find shards, in order, each with its part. Other files in the folder `path` are counted in `tally`,
    those at a URL in `RemoteShards.left_out`.

    The split is a word in the name of the file, or of a folder between it and `path`: `train-000.tar`, `test/000.tar`.
    If no name has one, all shards are train. `path` is a file, a folder, a pattern or a manifest: `{000..007}` and
    `{train,test}` stand for several names, `*` for any. Those of a URL are downloaded first, or with a `limit` in GB as
    they are read.

    Raises:
        CompressError: a folder cannot be read.
        UsageError: no shard is found, or only some of them have a split.
    """
    if is_url(path):
        remote = list_remote(path, endings)
        files = download(remote) if limit is None else lazy_files(remote, limit)
        return [(file, shard.part) for file, shard in zip(files, remote.shards, strict=True)]
    given = Path(expand(path)).expanduser()
    if is_manifest(path):
        return [(_listed(given.parent, record), part) for record, part in read_manifest(path)]
    if is_folder(given):
        shards = [(shard, str(shard.relative_to(given))) for shard in _below(given, endings, tally)]
        if not shards:
            raise UsageError(f"data.path: {given}: no file with the extension {' or '.join(endings)} found")
    elif is_file(given):
        shards = [(given, given.name)]
    elif not is_pattern(given):
        raise UsageError(f"data.path: file {located(given)} not found")
    else:
        files = [Path(name) for one in alternatives(str(given)) for name in _matches(one)]
        fixed = fixed_folder(given)
        shards = [(file, str(file.relative_to(fixed))) for file in dict.fromkeys(files)]
    parts = parts_of([name for _, name in shards], given)
    return [(shard, part) for (shard, _), part in zip(shards, parts, strict=True)]


def stated_digests(path: str) -> dict[str, str]:
    """Return the SHA-256 that a local manifest states, by absolute path; those at a URL were checked by `download`."""
    if is_url(path) or not is_manifest(path):
        return {}
    folder = Path(expand(path)).parent
    return {str((folder / record.file).absolute()): record.sha256 for record, _ in read_manifest(path) if record.sha256}


def locate(path: str) -> str:
    """Return where a data set is, for messages: its URL, or its whole path."""
    return path if is_url(path) else str(Path(expand(path)).expanduser())


def data_name(path: str) -> str:
    """Return the name of a data set: that of its folder or file."""
    return PurePosixPath(path).name if is_url(path) else Path(path).resolve().name


def _listed(folder: Path, record: ShardRecord) -> Path:
    """Return a shard of a local manifest, which must have the size that the manifest states."""
    file = folder / record.file
    if not is_file(file):
        raise UsageError(f"data.path: {located(file)} of the manifest not found; write the manifest again")
    if file.stat().st_size != record.bytes:
        raise changed_since_manifest(file)
    return file


def changed_since_manifest(file: Path) -> CompressError:
    """Return the error of a local shard that differs from its manifest."""
    return CompressError(f"{file} has changed since its manifest was written; write the manifest again")


def changed_at(file: Path) -> int:
    """Modification time of a shard in nanoseconds; a `CompressError` if it cannot be read."""
    try:
        return stamp(file)[1]
    except OSError as error:
        raise CompressError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:  # a name that no file can have
        raise CompressError(f"{file} cannot be read: {error}") from error


def _below(folder: Path, endings: tuple[str, ...], tally: Tally | None) -> list[Path]:
    """Files with one of the endings at any depth, sorted by path; links to folders are not followed."""
    found, folders = [], [folder]
    while folders:
        here = folders.pop()
        for entry in entries_of(here, tally):
            path = here / entry.name
            if is_folder_entry(entry):
                if not entry.is_symlink():
                    folders.append(path)
                elif tally is not None:
                    tally.add("folder", "link", path)
            elif entry.name.lower().endswith(endings) and path.is_file():
                found.append(path)
            else:
                count_file(tally, here, entry.name)
    return sorted(found)


def _matches(name: str) -> list[str]:
    files = sorted(glob.glob(name)) if re.search(r"[*?\[]", name) and not exists(Path(name)) else [name]  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not files or not all(is_file(Path(file)) for file in files):
        raise UsageError(f"data.path: file {located(Path(name))} not found")
    return files
