"""Folders that libraries keep their caches in, for a user whose own cache cannot be written to."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from compress.utils.system import user_cache

CACHES = {"HF_HOME": "huggingface", "TORCH_HOME": "torch", "XDG_CACHE_HOME": "compress-model"}
"""Variables that say where downloads go, and the folder in the user's cache without them, or in it."""

_temporary: Path | None = None
_told = False


def give_caches_a_place() -> None:
    """Let libraries keep their caches beside temporary files where the user has no cache that can be written to.

    What is in the user's cache already, such as weights in the image of a container, is read there.
    """
    _give_matplotlib_a_place()
    cache = user_cache()
    if cache and _can_write(cache):
        return
    lacking = [name for name in CACHES if not os.environ.get(name)]
    there = {name: cache / CACHES[name] for name in lacking if cache and (cache / CACHES[name]).is_dir()}
    with suppress(OSError):  # without a folder for temporary files either, errors say what is wrong
        for name in lacking:
            own = "" if name == "XDG_CACHE_HOME" else CACHES[name]
            if name not in there:
                os.environ[name] = str(_temporary_cache() / own)
            elif own:  # where XDG_CACHE_HOME names the temporary folder, it would be looked for there
                os.environ[name] = str(there[name])


def say_where_downloads_go(variable: str) -> None:
    """Say, once, that downloads go to a temporary folder, if those do whose folder a `variable` of `CACHES` names."""
    from compress.utils.console import console, say  # which machines that only run artifacts lack

    global _told
    folder = os.environ.get(variable, "")
    if _temporary and folder.startswith(str(_temporary)) and not _told and not console.quiet:
        _told = True
        say(f"downloads go to {folder}, as the user's cache cannot be written; set {variable} to keep them elsewhere")


def variable_of_unwritable(error: BaseException | None) -> str | None:
    """Return the variable to set where a download failed because its cache cannot be written; None for other errors."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS):
            torch_home = os.environ.get("TORCH_HOME") or f"{user_cache()}/torch"
            return "TORCH_HOME" if str(error.filename or "").startswith(torch_home) else "HF_HOME"
        error = error.__cause__ or error.__context__
    return None


def _give_matplotlib_a_place() -> None:
    """Keep matplotlib from choosing a new folder for each process, which it says in three lines and fails to remove."""
    with suppress(RuntimeError):
        if os.access(Path.home(), os.W_OK):
            return
    os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / f"matplotlib-{os.getuid()}"))


def _can_write(folder: Path) -> bool:
    """Return whether files can be made in a folder, which need not exist yet."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.lexists(path))
    try:  # some file systems refuse only then
        with tempfile.TemporaryFile(dir=nearest):
            return True
    except OSError:
        return False


def _temporary_cache() -> Path:
    """Return the folder for caches beside temporary files: the same each time, unless it is another user's."""
    global _temporary
    if _temporary is None:
        folder = Path(tempfile.gettempdir()) / f"compress-model-{os.getuid()}"
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        about = folder.lstat()
        own = about.st_uid == os.getuid() and folder.is_dir() and not folder.is_symlink()
        _temporary = folder if own else Path(tempfile.mkdtemp(prefix="compress-model-"))
    return _temporary
