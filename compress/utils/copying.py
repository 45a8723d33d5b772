"""Copies of folders."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NoReturn


def copy_tree(
    source: Path, target: Path, copy: Callable[[Path, Path], object] = shutil.copy2, leave_out: Collection[str] = ()
) -> None:
    """Copy a folder, also into one that is there, without the files of the names `leave_out`.

    Raises:
        OSError: the first file that cannot be copied, with its name and errno: `shutil.copytree` collects all of them
            in one error that has neither.
    """
    for parent, _, names in os.walk(source, onerror=_fail, followlinks=True):
        folder = target / Path(parent).relative_to(source)
        folder.mkdir(parents=True, exist_ok=True)
        for name in sorted(set(names).difference(leave_out)):
            copy(Path(parent) / name, folder / name)


def _fail(error: OSError) -> NoReturn:
    raise error
