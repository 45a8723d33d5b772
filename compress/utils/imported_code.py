"""The Python files that a module of a person's own imports, found without importing any."""

from __future__ import annotations

import ast
import importlib.util
import sysconfig
from collections.abc import Iterator
from pathlib import Path

INSTALLED = {"site-packages", "dist-packages"}  # folders of installed packages
STDLIB = Path(sysconfig.get_path("stdlib")).resolve()


def own_code(name: str, file: Path) -> set[Path]:
    """Return the file of a module and those of its own modules that it imports, whenever it does.

    They are those of its package, and those beside it and in the working directory that are of no installed package.
    """
    folders, own = (file.resolve().parent, Path.cwd()), name.split(".")[0]
    found, left = {file.resolve()}, [(name, file.resolve())]
    while left:
        module, path = left.pop()
        for imported in (module, *_imports(module, path)):
            for inner, each in _files(imported):
                top = inner.split(".")[0]
                is_own = top == own or (top != (__package__ or "").split(".")[0] and _is_beside(each, folders))
                if is_own and each not in found:
                    found.add(each)
                    left.append((inner, each))
    return found


def _is_beside(file: Path, folders: tuple[Path, ...]) -> bool:
    beside = any(file.is_relative_to(folder) for folder in folders)
    return beside and not INSTALLED & set(file.parts) and not file.is_relative_to(STDLIB)


def _imports(module: str, file: Path) -> Iterator[str]:
    """Yield the names of the modules that a file may import, also in functions; some are names inside of modules."""
    parts = module.split(".")
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = parts[: len(parts) - node.level + (file.name == "__init__.py")] if node.level else []
            base = [*package, *filter(None, [node.module])]
            yield from (".".join([*base, alias.name]) for alias in node.names)


def _files(module: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module and of the packages that it is in, with their names."""
    top, *inner = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: of a module that was made by hand
        return
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return
    path = Path(spec.origin).resolve()
    yield top, path
    for part in inner:
        if path.name != "__init__.py":
            return
        choices = (path.parent / part / "__init__.py", path.parent / f"{part}.py")
        found = next((each for each in choices if each.is_file()), None)
        if found is None:
            return
        top, path = f"{top}.{part}", found
        yield top, path
