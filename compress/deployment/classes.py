"""New class lists for artifacts of embedding students: nothing is trained, and the file itself stays."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.deployment.artifact import find_artifact
from compress.deployment.preprocess_file import PREPROCESS, gives_embeddings, read_inputs, read_preprocess
from compress.models.class_list import CLASSES, ClassList
from compress.utils.atomic import CONTENT, folder_as_a_whole, remove_partials, write_atomic
from compress.utils.checksums import SUMS, find_stale, is_foreign, require_unchanged_artifact, write_sums
from compress.utils.console import say
from compress.utils.copying import copy_tree
from compress.utils.errors import UsageError
from compress.utils.messages import truncate_list

if TYPE_CHECKING:
    from compress.models.text_tower import TextTower

TEXT = "text"  # folder of the text tower, beside those of the files
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Names:
    """Classes of a file of names."""

    names: tuple[str, ...]
    words: tuple[str, ...]  # for each class in prompts


def read_names(path: Path) -> Names:
    """Read class names, one per line: `name`, or `name: words in prompts`. Empty lines and `#` lines are left out.

    Raises:
        UsageError: the file cannot be read, has no names, one twice, or two that are the same in prompts.
    """
    rows: dict[str, str] = {}
    by_words: dict[str, str] = {}
    for number, line in enumerate(_lines(path, "--names"), 1):
        if not line or line.startswith("#"):
            continue
        name, colon, words = (part.strip() for part in line.partition(":"))
        if not name or (colon and not words):
            raise UsageError(f"{path}:{number}: expected `name` or `name: words`, not {line!r}")
        if name in rows:
            raise UsageError(f"{path}:{number}: {name!r} is listed twice; remove one")
        rows[name] = words or name.replace("_", " ")
        if any(unicodedata.category(letter) == "Cc" for letter in name + words):
            raise UsageError(f"{path}:{number}: {line!r} has a control character; remove it")
        if (other := by_words.setdefault(rows[name], name)) != name:
            raise UsageError(f"{path}:{number}: {name!r} and {other!r} are both {rows[name]!r} in prompts; change one")
    if not rows:
        raise UsageError(f"{path} has no class names; write one per line")
    if len(rows) > MAX_CLASSES:
        raise UsageError(f"{path} has {len(rows):,} class names; at most {MAX_CLASSES:,} are supported")
    return Names(tuple(rows), tuple(rows.values()))


def read_templates(values: Sequence[str]) -> tuple[str, ...]:
    """Return prompt templates, each a text with one `{}` or a file with one per line.

    Raises:
        UsageError: one has no `{}`, or several.
    """
    found: list[str] = []
    for value in values:
        if "{" in value or not Path(value).is_file():
            found.append(value)
        else:
            found += [line for line in _lines(Path(value), "--templates") if line and not line.startswith("#")]
    for template in found:
        if template.count("{}") != 1 or template.count("{") != 1 or template.count("}") != 1:
            raise UsageError(f"--templates: {template!r} must hold {{}} once, for the class name")
    return tuple(found)


def _lines(path: Path, option: str) -> list[str]:
    try:
        text = unicodedata.normalize("NFC", path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path} cannot be read as text; name a file with one entry per line") from error
    return [line.strip() for line in text.splitlines()]


def replace_classes(
    artifact: Path,
    names: Names,
    templates: Sequence[str],
    text: TextTower,
    output: Path | None = None,
) -> Path:
    """Write a new class list for an artifact, and return the folder that has it.

    Args:
        artifact: The file or its folder.
        names: The new classes.
        templates: Prompts; those of the present list if there are none.
        text: Text tower of the student's teacher.
        output: Folder for a copy of the artifact, which does not exist or is empty; None to change the artifact,
            which must be none of a run's.

    Raises:
        UsageError: the artifact gives logits or belongs to a run, the text tower is another teacher's, or the folder
            has files.
        CompressError: the artifact is damaged.
    """
    file = find_artifact(artifact)[0]
    folder = file.parent.resolve()
    require_unchanged_artifact(file)
    present = read_inputs(folder)[1]
    if not gives_embeddings(folder):
        raise UsageError(f"{folder} gives logits of {truncate_list(present)}, which its weights hold; train it anew")
    if output is None and (run := _run_of(folder)):
        raise UsageError(f"{folder} belongs to the run {run}; name a folder for a copy with --output")
    if output and output.is_dir():
        remove_partials(output / CONTENT)
    if output and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} exists; name a new folder")
    old = ClassList.read(folder)
    new = text.replace_classes(old, names.names, names.words, templates or old.templates)
    content = {**read_preprocess(folder), "classes": list(new.names)}
    if output is None:
        _write(folder, new, content)
        return folder
    with folder_as_a_whole(output) as copy:
        copy_tree(folder, copy, leave_out=[SUMS])
        _write(copy, new, content)
    return output


def _write(target: Path, new: ClassList, content: Mapping[str, object]) -> None:
    """Write a class list, and the `preprocess.json` and the checksums with it; those of another tool stay."""
    foreign = is_foreign(target)
    if not foreign:
        (target / SUMS).unlink(missing_ok=True)  # a killed command leaves a folder that this one mends
    new.write(target)
    write_atomic(target / PREPROCESS, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    if not foreign:
        write_sums(target)
    elif stale := find_stale(target, [CLASSES, PREPROCESS]):
        say(f"{target / SUMS} is another tool's and has old digests of {truncate_list(stale)}; make it again")


def _run_of(folder: Path) -> Path | None:
    """Return the run that an artifact's folder lies in, whose results are of the classes that it has."""
    run = folder.parent.parent.parent
    return run if (run / "results.json").is_file() else None


def text_folder(artifact: Path) -> Path | None:
    """Return the folder of the text tower that was exported beside an artifact; None if there is none."""
    folder = find_artifact(artifact)[0].parent.resolve().parent / TEXT
    return folder if folder.is_dir() else None
