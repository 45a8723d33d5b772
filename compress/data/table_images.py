"""The image files that the cells of a table name, as people and their systems write paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

from compress.data.image_io import ENDINGS, is_file, is_folder
from compress.data.layout import entries_of, subfolders
from compress.data.tree import is_image
from compress.utils.errors import UsageError
from compress.utils.messages import one_line, truncate_list
from compress.utils.names import same_name

MAX_FOLDERS = 50  # in the folder of a table, that are looked into for its images


class ImagesOfTable:
    """Finds the image files that the cells of a table name.

    A path starts at the folder of the table, or at one folder in it (`train/` for `train.csv`), which the first image
    shows; the ending may be missing, and backslashes separate folders where no file has one in its name. Where there is
    no such file, one counts whose path differs in upper and lower case only.
    """

    def __init__(self, table: Path) -> None:
        self.table = table
        self.folder: Path | None = None
        self.ending = ""
        self._names: dict[Path, dict[str, list[str]]] = {}  # of folders that were looked into, by `_folded` name

    def find(self, cell: str, column: str, line: int) -> Path:
        """Return the file of a cell, or raise a `UsageError` with the likely cause."""
        place = f"{self.table}:{line}"
        if not cell:
            raise UsageError(f"{place}: no path in the column {column}")
        plain = self.table.parent / cell
        if self.folder in (None, self.table.parent) and is_file(plain):
            self.folder = self.table.parent
            return plain
        text = cell.replace("\\", "/")
        folders = self._folders() if self.folder is None else [self.folder]
        found = _files(folders, partial(self._in, text=text))
        found = found or _files(folders, partial(self._in_any_case, text=text, place=place))
        if not found:
            hint = self._did_you_mean(text)
            raise UsageError(
                f"{place}: file {one_line(cell)} not found; paths are relative to the CSV's folder or to one in it"
                f"{hint}"
            )
        named = [file for file in found.values() if file.is_relative_to(self.table.with_suffix(""))]
        if self.folder is None and len(found) > 1 and not named and self.table.parent not in found:
            there = truncate_list(file.parent.name for file in found.values())
            raise UsageError(
                f"{place}: {one_line(cell)} is in several folders ({there}); write the folder in the column {column}"
            )
        file = (named or list(found.values()))[0]
        if self.folder is None:
            self.folder = next(folder for folder, own in found.items() if own == file)
        return file

    def _folders(self) -> list[Path]:
        """The folder of the table, and those in it."""
        parent = self.table.parent
        return [parent, *(parent / name for name in subfolders(parent)[:MAX_FOLDERS])]

    def _in(self, folder: Path, text: str) -> Path | None:
        """Return the file `text` in a folder, with the ending of an image where it has none."""
        given = folder / text
        if is_file(given):
            return given
        if is_image(text):
            return None
        for ending in self._endings():
            file = folder / f"{text}{ending}"
            if ending and is_file(file):
                self.ending = ending
                return file
        return None

    def _endings(self) -> Iterable[str]:
        return dict.fromkeys((self.ending, *sorted(ENDINGS, key=lambda one: (one != ".jpg", one))))

    def _in_any_case(self, folder: Path, text: str, place: str) -> Path | None:
        """Return the only file whose path is `text`, or `text` with an ending, but for upper and lower case."""
        path = PurePosixPath(text)
        if path.is_absolute() or not path.name:
            return None
        folders = [folder]
        for name in path.parts[:-1]:
            folders = [each for here in folders for each in self._named(here, name) if is_folder(each)]
        for ending in ("",) if is_image(text) else ("", *self._endings()):
            found = [each for here in folders for each in self._named(here, path.name + ending) if is_file(each)]
            if len(found) > 1:
                there = truncate_list(str(file.relative_to(folder)) for file in found)
                raise UsageError(
                    f"{place}: file {one_line(text)} not found; {there} differ from it in upper and lower case only: "
                    "write the one that is meant"
                )
            if found:
                self.ending = found[0].suffix if ending else self.ending
                return found[0]
        return None

    def _named(self, folder: Path, name: str) -> list[Path]:
        """Return what a folder has under a name in any case."""
        if name == "..":
            return [folder / name]
        if folder not in self._names:
            names = self._names[folder] = {}
            for entry in entries_of(folder):
                names.setdefault(_folded(entry.name), []).append(entry.name)
        return [folder / each for each in self._names[folder].get(_folded(name), ())]

    def _did_you_mean(self, text: str) -> str:
        """Return a hint where the file is there without the first folders of its path."""
        names = [name for name in text.split("/") if name not in ("", ".", "..")][:MAX_FOLDERS]
        for start in range(1, len(names)):
            if is_file(self.table.parent.joinpath(*names[start:])):
                return f"; did you mean {one_line('/'.join(names[start:]))}?"
        return ""


def _files(folders: Iterable[Path], find: Callable[[Path], Path | None]) -> dict[Path, Path]:
    """Return the file that is found in each folder, without folders that have none."""
    return {folder: file for folder in folders if (file := find(folder))}


def _folded(name: str) -> str:
    return same_name(name).casefold()
