"""`SHA256SUMS`: checksums of the files of a run or an artifact, as they were written.

The format is that of coreutils, so `sha256sum -c SHA256SUMS` checks the same. The last line, a comment in that format,
is the digest of the lines before it. The file is written last: a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

from compress.utils.atomic import write_atomic
from compress.utils.errors import CompressError, UsageError
from compress.utils.hashing import file_digest

SUMS = "SHA256SUMS"
RUN_AGAIN = "run the recipe again (finished stages are taken from the store)"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_sums(folder: Path, leave_out: Iterable[str] = ()) -> None:
    """Write the checksums of all files below a folder, except hidden ones and those that are or lie in `leave_out`."""
    skipped = {Path(SUMS), *map(Path, leave_out)}
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [name for name in names if not skipped & {name, *name.parents} and not name.name.startswith(".")]
    _write(folder, {name.as_posix(): file_digest(folder / name) for name in kept})


def update_sums(folder: Path, names: Iterable[str]) -> None:
    """Update the checksums of some files; do nothing if the folder has no `SHA256SUMS`."""
    if (folder / SUMS).is_file():
        _write(folder, {**read_sums(folder), **{name: file_digest(folder / name) for name in names}})


def read_sums(folder: Path) -> dict[str, str]:
    """Return digests by file name.

    Raises:
        CompressError: `SHA256SUMS` is not byte for byte what was written.
    """
    path = folder / SUMS
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise CompressError(f"{path} is damaged: it cannot be read") from error
    sums = {match[2]: match[1] for line in text.split("\n") if (match := _LINE.fullmatch(line))}
    if text != _text(sums):
        raise CompressError(f"{path} is damaged: it is not what was written")
    return sums


def find_changes(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Return a line per file that is missing or has changed, among all that `SHA256SUMS` lists or among `names`.

    Raises:
        CompressError: `SHA256SUMS` itself is damaged.
    """
    sums, lines = read_sums(folder), []
    for name in sums if names is None else names:
        path = folder / name
        if name not in sums:
            lines.append(f"{folder / SUMS} does not list {name}")
        elif not path.is_file():
            lines.append(f"{path} is missing")
        elif file_digest(path) != sums[name]:
            lines.append(f"{path} has changed since it was written")
    return lines


def check_run(run: Path) -> list[str]:
    """Refuse a run whose `results.json` has changed, and return what is wrong with its other files.

    Raises:
        UsageError: `results.json` is not as the run wrote it.
        CompressError: `SHA256SUMS` itself is damaged.
    """
    if not (run / SUMS).is_file():
        return [f"{run}: cannot verify its files: no {SUMS}"] if (run / "results.json").is_file() else []
    require_unchanged(run / "results.json", RUN_AGAIN)
    return find_changes(run)


def require_unchanged(path: Path, remedy: str) -> None:
    """Refuse a file that has changed since the `SHA256SUMS` beside it was written; without one, accept it.

    Raises:
        UsageError: it has changed; the message ends with `remedy`.
        CompressError: `SHA256SUMS` itself is damaged.
    """
    if (path.parent / SUMS).is_file():
        lines = find_changes(path.parent, [path.name])
        if lines:
            raise UsageError(f"{lines[0]}; {remedy}")


def require_unchanged_artifact(folder: Path) -> None:
    """Refuse an artifact that has changed since the `SHA256SUMS` of its folder, or else of its run, was written.

    Raises:
        CompressError: a file has changed or is missing.
    """
    folder = folder.resolve()  # of a link or `..` the parents are others
    run = folder.parent.parent.parent
    if (folder / SUMS).is_file():
        lines = find_changes(folder)
    elif (run / SUMS).is_file():
        prefix = f"{folder.relative_to(run).as_posix()}/"
        lines = find_changes(run, [name for name in read_sums(run) if name.startswith(prefix)])
    else:
        return
    if lines:
        raise CompressError(f"{lines[0]}; copy the artifact from its run again, or {RUN_AGAIN}")


def _text(sums: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    return f"{lines}# {hashlib.sha256(lines.encode()).hexdigest()} of these lines\n"


def _write(folder: Path, sums: dict[str, str]) -> None:
    write_atomic(folder / SUMS, _text(sums))
