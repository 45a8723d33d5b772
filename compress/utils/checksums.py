"""`SHA256SUMS`: checksums of the files of a run or an artifact, as they were written.

The format is that of coreutils, so `sha256sum -c SHA256SUMS` checks the same. The last line, a comment in that format,
is the digest of the lines before it. The file is written last: a folder that has one is complete.

A file without such a line is another tool's, in the format of `sha256sum` (text or binary), `sha256sum --tag` or
`openssl dgst`. It counts for the recipes, results and artifacts that it lists. One of ours that is cut off before its
last line is taken for such a file: what it still lists is verified, and what it has lost is accepted.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from compress.utils.atomic import write_atomic
from compress.utils.errors import CompressError, UsageError
from compress.utils.hashing import file_digest

SUMS = "SHA256SUMS"
RUN_AGAIN = "run the recipe again (finished stages are taken from the store)"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LAST = re.compile(r"^# [0-9a-f]{64}|^# ?[0-9a-f]*\Z| of these lines$", re.MULTILINE)  # half of it may be damaged
_FOREIGN = (
    re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>.+)", re.IGNORECASE),
    re.compile(r"SHA(2-)?256 ?\((?P<name>.+)\) ?= (?P<digest>[0-9a-f]{64})", re.IGNORECASE),
)


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
    sums = _parse(text)
    if text != _text(sums):
        raise CompressError(f"{path} is damaged: it is not what was written")
    return sums


def is_foreign(folder: Path) -> bool:
    """Return whether the `SHA256SUMS` of a folder is another tool's; raises an `OSError` if it cannot be read."""
    return (folder / SUMS).is_file() and not _LAST.search(_loosely(folder))


def find_stale(folder: Path, names: Iterable[str]) -> list[str]:
    """Return those of some files of which another tool's `SHA256SUMS` has another digest than they have now."""
    sums = _read_foreign(folder)
    return [name for name in names if name in sums and file_digest(folder / name) != sums[name]]


def find_changes(folder: Path) -> list[str]:
    """Return a line per file that is missing or has changed, of all that `SHA256SUMS` lists.

    Raises:
        CompressError: `SHA256SUMS` itself is damaged.
    """
    sums = read_sums(folder)
    return _changes(folder, sums, sums)


def _changes(folder: Path, sums: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Return a line for each of some files that is missing, has changed or is not listed."""
    lines = []
    for name in names:
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
    sums = _sums_for(path.parent, path.name)
    if sums and (lines := _changes(path.parent, sums, [path.name])):
        raise UsageError(f"{lines[0]}; {remedy}")


def require_unchanged_artifact(file: Path) -> None:
    """Refuse an artifact that has changed since the `SHA256SUMS` of its run, or else of its folder, was written.

    One that does not list the file, which may have been put there since, does not count.

    Raises:
        CompressError: a file of the artifact has changed or is missing, or `SHA256SUMS` itself is damaged.
    """
    folder = file.parent.resolve()  # of a link or `..` the parents are others
    for root in (folder.parent.parent.parent, folder):
        prefix = "" if root == folder else f"{folder.relative_to(root).as_posix()}/"
        sums = _sums_for(root, prefix + file.name)
        if not any(_is_of(name, prefix + file.name) for name in sums):
            continue
        if lines := _changes(root, sums, [name for name in sums if name.startswith(prefix)]):
            raise CompressError(f"{lines[0]}; copy the artifact from its run again, or {RUN_AGAIN}")
        return


def _sums_for(folder: Path, name: str) -> dict[str, str]:
    """Return the digests by which a file of a folder is checked: of another tool's `SHA256SUMS`, only its own.

    Raises:
        CompressError: `SHA256SUMS` is damaged.
    """
    try:
        if not (folder / SUMS).is_file():
            return {}
        if not is_foreign(folder):
            return read_sums(folder)
        return {each: digest for each, digest in _read_foreign(folder).items() if _is_of(each, name)}
    except OSError as error:
        raise CompressError(f"{folder / SUMS} cannot be read: {error.strerror}; make it readable") from error


def _is_of(listed: str, name: str) -> bool:
    """Whether a name in `SHA256SUMS` is that of a file, or of a part where the file is a folder."""
    return listed == name or listed.startswith(f"{name}/")


def _loosely(folder: Path) -> str:
    """Read `SHA256SUMS` as text whatever it holds."""
    return (folder / SUMS).read_bytes().decode(errors="replace")


def _parse(text: str) -> dict[str, str]:
    return {match[2]: match[1] for line in text.split("\n") if (match := _LINE.fullmatch(line))}


def _read_foreign(folder: Path) -> dict[str, str]:
    """Return digests by file name of another tool's `SHA256SUMS`, in the formats that the module names."""
    lines = [line.removesuffix("\r") for line in _loosely(folder).split("\n")]
    found = [match for line in lines for pattern in _FOREIGN if (match := pattern.fullmatch(line))]
    return {PurePosixPath(match["name"]).as_posix(): match["digest"].lower() for match in found}  # without `./`


def _text(sums: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    return f"{lines}# {hashlib.sha256(lines.encode()).hexdigest()} of these lines\n"


def _write(folder: Path, sums: dict[str, str]) -> None:
    write_atomic(folder / SUMS, _text(sums))
