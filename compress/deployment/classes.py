"""New class lists for artifacts of embedding students: nothing is trained, and the file itself stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from compress.deployment.artifact import class_list, find_artifact
from compress.deployment.preprocess_file import PREPROCESS, read_inputs, read_preprocess
from compress.utils.checksums import require_unchanged_artifact, write_sums
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
        UsageError: the file cannot be read, has no names, or one twice.
    """
    rows: dict[str, str] = {}
    for number, line in enumerate(_lines(path, "--names"), 1):
        if not line or line.startswith("#"):
            continue
        name, colon, words = (part.strip() for part in line.partition(":"))
        if not name or (colon and not words):
            raise UsageError(f"{path}:{number}: expected `name` or `name: words`, not {line!r}")
        if name in rows:
            raise UsageError(f"{path}:{number}: {name!r} is listed twice; remove one")
        rows[name] = words or name.replace("_", " ")
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
        return [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option} {path} cannot be read as text; name a file with one entry per line") from error


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
        output: Folder for a copy of the artifact, which does not exist or is empty; None to change the artifact.

    Raises:
        UsageError: the artifact gives logits, the text tower is another teacher's, or the folder has files.
        CompressError: the artifact is damaged.
    """
    file, _ = find_artifact(artifact)
    folder = file.parent
    require_unchanged_artifact(folder)
    old = class_list(file, read_inputs(folder)[1])
    if old is None:
        raise UsageError(
            f"{folder} gives logits of {truncate_list(read_inputs(folder)[1])}, which its weights hold; train it anew"
        )
    if output and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UsageError(f"--output {output} exists; name a new folder")
    new = text.listed_anew(old, names.names, names.words, templates or old.templates)
    target = output or folder.with_name(f".{folder.name}.new")
    if output is None:
        shutil.rmtree(target, ignore_errors=True)  # of a killed command
    shutil.copytree(folder, target, dirs_exist_ok=True)  # files of a run are hard links into the store
    new.write(target)
    content = {**read_preprocess(folder), "classes": list(new.names)}
    (target / PREPROCESS).unlink()
    (target / PREPROCESS).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_sums(target)
    return target if output else _put_in_place(target, folder)


def _put_in_place(new: Path, folder: Path) -> Path:
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    new.rename(folder)
    shutil.rmtree(aside)
    return folder


def text_folder(artifact: Path) -> Path | None:
    """Return the folder of the text tower that was exported beside an artifact; None if there is none."""
    folder = find_artifact(artifact)[0].absolute().parent.parent / TEXT
    return folder if folder.is_dir() else None
