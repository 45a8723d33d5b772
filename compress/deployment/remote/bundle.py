"""What is sent to another machine: the modules that a benchmark imports, the artifacts, and the request."""

from __future__ import annotations

import ast
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import compress
from compress.deployment.remote.worker import REQUEST

PACKAGE = compress.__name__


def write_bundle(
    file: IO[bytes], modules: Sequence[str], files: Mapping[str, Path], request: Mapping[str, Any]
) -> None:
    """Write a tar archive.

    Args:
        file: What to write to.
        modules: Modules of this package that run there; those that they import are added.
        files: Files by their name in the archive; of links, what they lead to.
        request: Content of `request.json`.
    """
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        root = Path(compress.__file__).parents[1]
        for path in sorted(imported(modules).values()):
            archive.add(path, path.relative_to(root).as_posix(), filter=_anonymous)
        for name, path in files.items():
            archive.add(path, name, recursive=False, filter=_anonymous)
        text = json.dumps(request).encode()
        entry = tarfile.TarInfo(REQUEST)
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))


def imported(modules: Sequence[str]) -> dict[str, Path]:
    """Return the source files of modules of this package and of all that they import from it, by module."""
    found: dict[str, Path] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = None if name in found else _source(name)
        if path is not None:
            found[name] = path
            waiting += [name.rpartition(".")[0], *_imports(ast.parse(path.read_bytes()))]
    return found


def _imports(node: ast.AST) -> Iterator[str]:
    """Yield the names that a module imports anywhere, except for type checking; some are of no module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield child.module
            yield from (f"{child.module}.{alias.name}" for alias in child.names)
        else:
            yield from _imports(child)


def _source(name: str) -> Path | None:
    if name.partition(".")[0] != PACKAGE:
        return None
    path = Path(compress.__file__).parents[1].joinpath(*name.split("."))
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Leave out who owns a file, and what is neither a file nor a folder."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o755 if entry.isdir() else 0o644
    return entry if entry.isfile() or entry.isdir() else None
