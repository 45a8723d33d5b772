"""Which files an artifact consists of: they may lie in a folder with others, which are neither counted nor sent."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path

from compress.deployment.preprocess_file import PREPROCESS
from compress.deployment.runtimes import find_runtime
from compress.models.class_list import CLASSES
from compress.registry import RUNTIMES
from compress.utils.checksums import SUMS

ONNX = ".onnx"
ONNX_WEIGHTS = (".data", "_data")  # endings of the second file, after the first one's name


def artifact_files(path: Path, runtimes: Iterable[str] = tuple(RUNTIMES)) -> list[Path]:
    """List the existing files of an artifact: the one to load, those that it refers to, its preprocessing and classes.

    `SHA256SUMS` is none of them: it may list more than these. With the runtime that loads it alone in `runtimes`, the
    others need not be there.
    """
    names = [path.name, *_beside(path.name, runtimes), PREPROCESS, CLASSES]
    names += _onnx_weights(path) if path.name.endswith(ONNX) else []
    found = [path.parent / name for name in dict.fromkeys(names)]
    inside = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
    return [*inside, *(file for file in found if file.is_file())]


def artifact_bytes(path: Path, runtimes: Iterable[str] = tuple(RUNTIMES)) -> int:
    """Size of an artifact in bytes: all files that are needed to run it, without its preprocessing."""
    return sum(file.stat().st_size for file in artifact_files(path, runtimes) if file.name != PREPROCESS)


def _beside(name: str, runtimes: Iterable[str]) -> Iterator[str]:
    """Yield the names of the files that a runtime writes beside one of this name, such as `NAME.bin` for `NAME.xml`."""
    for runtime in map(find_runtime, runtimes):
        (first, *others), ending = runtime.files, runtime.reads[0]
        if name.endswith(ending) and first.endswith(ending):
            own, usual = name.removesuffix(ending), first.removesuffix(ending)
            yield from (own + other.removeprefix(usual) for other in others if other.startswith(usual))


def _onnx_weights(path: Path) -> Iterator[str]:
    """Yield the names of an ONNX file's external data: the usual ones, and with the `onnx` package those it states.

    The package takes long to import, so the file is not read where nothing else is beside it.
    """
    usual = [path.name + ending for ending in ONNX_WEIGHTS]
    yield from usual
    known = {path.name, *usual, PREPROCESS, CLASSES, SUMS}
    if all(file.name in known for file in path.parent.iterdir()) or importlib.util.find_spec("onnx") is None:
        return
    try:
        import onnx

        graph = onnx.load(path, load_external_data=False).graph
    except Exception:  # the package or the file is broken; the runtime there says what is wrong with the file
        return
    for tensor in graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and _is_below(entry.value):
                yield entry.value


def _is_below(name: str) -> bool:
    """Whether a path stays in the folder that it starts from; a file must not name others of this machine."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts
