"""`SHA256SUMS`: what the files of a run, and of an artifact, were when they were written.

The format is that of coreutils, so `sha256sum -c SHA256SUMS` checks the same; the last line, a comment to it, is the
digest of those before it. It is written last: a folder that has one is whole.
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
RUN_AGAIN = "run the recipe again: it takes from the store what is there"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def write_sums(folder: Path, leave_out: Iterable[str] = ()) -> None:
    """Write down the digests of all files below a folder, but for hidden ones and the top folders `leave_out`."""
    skipped = {*leave_out, SUMS}
    names = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    kept = [name for name in names if name.parts[0] not in skipped and not name.name.startswith(".")]
    _write(folder, {name.as_posix(): file_digest(folder / name) for name in kept})


def update_sums(folder: Path, names: Iterable[str]) -> None:
    """Write down anew what some files are now. Where there is no `SHA256SUMS`, none is made."""
    if (folder / SUMS).is_file():
        _write(folder, {**read_sums(folder), **{name: file_digest(folder / name) for name in names}})


def read_sums(folder: Path) -> dict[str, str]:
    """Digests by name.

    Raises:
        CompressError: the file is not to the byte what was written.
    """
    path = folder / SUMS
    try:
        text = path.read_bytes().decode()
        sums = {found[2]: found[1] for line in text.split("\n") if (found := _LINE.fullmatch(line))}
    except (OSError, UnicodeDecodeError) as error:
        raise CompressError(f"{path} is damaged: it cannot be read") from error
    if text != _text(sums):
        raise CompressError(f"{path} is damaged: it is not what was written")
    return sums


def damages(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """What is wrong with files of a folder that has a `SHA256SUMS`: with all that it lists, or with `names`.

    Raises:
        CompressError: `SHA256SUMS` itself is damaged.
    """
    sums, wrong = read_sums(folder), []
    for name in sums if names is None else names:
        path = folder / name
        if name not in sums:
            wrong.append(f"{folder / SUMS} does not list {name}")
        elif not path.is_file():
            wrong.append(f"{path} is missing")
        elif file_digest(path) != sums[name]:
            wrong.append(f"{path} has changed since it was written")
    return wrong


def check_run(run: Path) -> list[str]:
    """Refuse a run whose `results.json` has changed, and return what else is wrong with its files.

    Raises:
        UsageError: `results.json` is not as the run wrote it.
        CompressError: `SHA256SUMS` itself is damaged.
    """
    if not (run / SUMS).is_file():
        unknown = f"{run} has no {SUMS}: whether its files are what the run wrote is not known"
        return [unknown] if (run / "results.json").is_file() else []
    refuse_changed(run / "results.json", RUN_AGAIN)
    return damages(run)


def refuse_changed(path: Path, remedy: str) -> None:
    """Refuse a file that is not what `SHA256SUMS` beside it says; without a `SHA256SUMS`, nothing is known of it.

    Raises:
        UsageError: it has changed; the message ends with `remedy`.
        CompressError: `SHA256SUMS` itself is damaged.
    """
    if (path.parent / SUMS).is_file():
        wrong = damages(path.parent, [path.name])
        if wrong:
            raise UsageError(f"{wrong[0]}; {remedy}")


def refuse_changed_artifact(folder: Path) -> None:
    """Refuse an artifact that is not what `SHA256SUMS` in its folder, or else that of the run it lies in, says.

    Raises:
        CompressError: a file has changed or is missing.
    """
    run = folder.absolute().parent.parent.parent
    if (folder / SUMS).is_file():
        wrong = damages(folder)
    elif (run / SUMS).is_file():
        within = f"{folder.absolute().relative_to(run).as_posix()}/"
        wrong = damages(run, [name for name in read_sums(run) if name.startswith(within)])
    else:
        return
    if wrong:
        raise CompressError(f"{wrong[0]}; take the artifact from its run again, or {RUN_AGAIN}")


def _text(sums: dict[str, str]) -> str:
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
    return f"{lines}# {hashlib.sha256(lines.encode()).hexdigest()} of these lines\n"


def _write(folder: Path, sums: dict[str, str]) -> None:
    write_atomic(folder / SUMS, _text(sums))
